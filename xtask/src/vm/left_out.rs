//! Tests that a kernel cannot pass, whatever the observer does, each with what the kernel lacks.

/// One test that does not run on one kernel.
pub struct LeftOut {
    /// The program of tests.
    pub program: &'static str,
    /// The test.
    pub test: &'static str,
    /// The kernel's version.
    pub kernel: &'static str,
    /// What is not there.
    pub why: &'static str,
}

/// All of them.
pub const LEFT_OUT: &[LeftOut] = &[
    LeftOut {
        program: "census",
        test: "memory_that_cannot_be_read_costs_none_of_the_tasks_around_it_and_is_said",
        kernel: "6.1",
        why: "a program can poison pages of its own since Linux 6.6 (UFFDIO_POISON)",
    },
    LeftOut { program: "census", test: GUARDS, kernel: "6.1", why: NO_GUARDS },
    LeftOut {
        program: "governor",
        test: "a_stream_that_begins_with_a_tier_never_tells_more",
        kernel: "6.1",
        why: NO_PRICE,
    },
    LeftOut {
        program: "governor",
        test: "when_the_load_is_over_all_is_told_again_and_is_exact",
        kernel: "6.1",
        why: NO_PRICE,
    },
    LeftOut {
        program: "governor",
        test: "who_is_busy_is_observed_less_step_by_step_until_no_probe_is_left",
        kernel: "6.1",
        why: NO_PRICE,
    },
    LeftOut { program: "governor", test: "who_is_idle_is_observed_in_full", kernel: "6.1", why: NO_PRICE },
    LeftOut { program: "census", test: GUARDS, kernel: "6.12", why: NO_GUARDS },
];

const NO_PRICE: &str = "without uprobe_multi what a hit costs is not measured, and --max-overhead is refused";
const GUARDS: &str = "guards_inside_of_memory_are_no_memory_and_raise_no_doubt";
const NO_GUARDS: &str = "a program can put guards into its memory since Linux 6.13 (MADV_GUARD_INSTALL)";
