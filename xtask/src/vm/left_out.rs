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
    LeftOut { program: "census", test: GUARDS, kernel: "6.12", why: NO_GUARDS },
];

const GUARDS: &str = "guards_inside_of_memory_are_no_memory_and_raise_no_doubt";
const NO_GUARDS: &str = "a program can put guards into its memory since Linux 6.13 (MADV_GUARD_INSTALL)";
