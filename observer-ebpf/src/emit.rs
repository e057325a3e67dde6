//! Writing one record, onto the thread's desk or into this CPU's ring.
//!
//! Does not know what the record says.

use core::ffi::c_void;
use core::mem::MaybeUninit;

use aya_ebpf::bindings::pt_regs;
use aya_ebpf::helpers::{bpf_get_attach_cookie, bpf_get_current_pid_tgid, bpf_ktime_get_ns};
use aya_ebpf::{EbpfContext, Global};
use observer_common::{Cookie, Counter, FLAG_BY_ADDRESS, Record, RecordKind};

use crate::desk::Desk;
use crate::header::{Head, Stage};
use crate::maps::{self, PRICED, RECORDS};
use crate::{audience, lap, ring};

/// Not zero where one probe sits at many points, so that records must say the address. Constant once the programs are
/// loaded.
#[unsafe(no_mangle)]
static BY_ADDRESS: Global<u8> = Global::new(0);

/// Whether records say the address instead of the cookie.
#[inline(always)]
pub fn by_address() -> bool {
    BY_ADDRESS.load() != 0
}

/// A record on the stack, of which only the part to be sent gets written. It is not kept in a per-CPU scratch row,
/// because a uprobe's program can be preempted in the middle of it.
pub struct Draft {
    record: MaybeUninit<Record>,
}

/// What every probe knows about its hit.
#[derive(Clone, Copy)]
pub struct Hit {
    /// When.
    pub ts: u64,
    /// Which point.
    pub cookie: u64,
    /// The probed instruction; at a return, that of the entry once it is known.
    pub at: u64,
    /// Process and thread, as the helper packs them.
    pub pid_tgid: u64,
    /// Stack pointer now.
    pub sp: u64,
    /// When its program began, of the few that are timed; else 0.
    pub began: u64,
}

impl Hit {
    /// Counts the hit; `None` for one of a process that is not to be reported. Its time is to follow, once all is read that
    /// is read: asking for it twice costs the target 40 ns more.
    #[inline(always)]
    pub fn take<C: EbpfContext>(ctx: &C, regs: *const pt_regs) -> Option<Self> {
        Self::counted_as(Counter::Hits, ctx, regs)
    }

    /// The same at a return.
    #[inline(always)]
    pub fn take_return<C: EbpfContext>(ctx: &C, regs: *const pt_regs) -> Option<Self> {
        Self::counted_as(Counter::Returns, ctx, regs)
    }

    #[inline(always)]
    fn counted_as<C: EbpfContext>(counter: Counter, ctx: &C, regs: *const pt_regs) -> Option<Self> {
        let pid_tgid = bpf_get_current_pid_tgid();
        if !audience::admits(pid_tgid) {
            return None;
        }
        let began = lap::begin(lap::is_timed(maps::count(counter)));
        Some(Self::uncounted(ctx, regs, pid_tgid, began))
    }

    /// A hit of which it is not known yet whether it is at a return, with its thread's desk, where it is counted; whoever knows it says the
    /// rest. `None` as for the others. Without a desk it is not counted yet, nor timed.
    #[inline(always)]
    pub fn of_either<C: EbpfContext>(ctx: &C, regs: *const pt_regs) -> Option<(Self, Option<Desk>)> {
        let pid_tgid = bpf_get_current_pid_tgid();
        if !audience::admits(pid_tgid) {
            return None;
        }
        let desk = Desk::of(pid_tgid);
        let began = desk.map_or(0, |desk| lap::begin(lap::is_timed(desk.count_hit())));
        Some((Self::uncounted(ctx, regs, pid_tgid, began), desk))
    }

    /// A hit of the observer itself, whoever is to be reported: it is nobody's business.
    #[inline(always)]
    pub fn of_own<C: EbpfContext>(ctx: &C, regs: *const pt_regs, timed: bool) -> Self {
        Self::uncounted(ctx, regs, bpf_get_current_pid_tgid(), lap::begin(timed))
    }

    #[inline(always)]
    fn uncounted<C: EbpfContext>(ctx: &C, regs: *const pt_regs, pid_tgid: u64, began: u64) -> Self {
        Self {
            ts: 0,
            // SAFETY: the program's own context.
            cookie: unsafe { bpf_get_attach_cookie(ctx.as_ptr()) },
            // SAFETY: as above.
            at: unsafe { (*regs).rip },
            pid_tgid,
            // SAFETY: the program's own context, which is the registers.
            sp: unsafe { (*regs).rsp },
            began,
        }
    }

    /// The same hit, with the time now. A program can be preempted between its first instruction and its reading of
    /// memory: what it saw must not be dated before what others did to that memory meanwhile. Dated too late it does no harm:
    /// what has been done to a task since is not undone, and at an entry the call has not begun yet.
    #[inline(always)]
    pub fn dated_now(self) -> Self {
        // SAFETY: the helper takes nothing.
        Self { ts: unsafe { bpf_ktime_get_ns() }, ..self }
    }

    /// Process id.
    #[inline(always)]
    pub fn tgid(&self) -> u32 {
        (self.pid_tgid >> 32) as u32
    }

    /// Thread id.
    #[inline(always)]
    pub fn tid(&self) -> u32 {
        self.pid_tgid as u32
    }

    /// The point's index, the low half of the cookie.
    #[inline(always)]
    pub fn point(&self) -> u32 {
        self.cookie as u32
    }

    /// Which register the cookie names.
    #[inline(always)]
    pub fn register(&self) -> u8 {
        Cookie::from_u64(self.cookie).register
    }

    /// The cookie's target.
    #[inline(always)]
    pub fn target(&self) -> u32 {
        u32::from(Cookie::from_u64(self.cookie).target)
    }

    /// Which word of the cell the cookie asks for besides the head, 0 for none.
    #[inline(always)]
    pub fn far(&self) -> u8 {
        Cookie::from_u64(self.cookie).far
    }
}

impl Draft {
    /// Nothing written yet.
    #[inline(always)]
    pub fn new() -> Self {
        Self { record: MaybeUninit::uninit() }
    }

    /// Where the record is.
    #[inline(always)]
    fn record(&mut self) -> *mut Record {
        self.record.as_mut_ptr()
    }

    /// Where its head is, to be filled in.
    #[inline(always)]
    pub fn head(&mut self) -> *mut Head {
        // SAFETY: a place in the draft's own memory.
        unsafe { &raw mut (*self.record()).head }
    }

    /// And its stage.
    #[inline(always)]
    pub fn stage(&mut self) -> *mut Stage {
        // SAFETY: as above.
        unsafe { &raw mut (*self.record()).stage }
    }

    /// Fills in the bare part.
    #[inline(always)]
    pub fn describe(&mut self, hit: &Hit, kind: RecordKind, flags: u16, sp: u64, subject: u64, far: u64) {
        // SAFETY: the record is this draft's own memory.
        unsafe { describe(self.record(), hit, kind, flags, sp, subject, far) }
    }

    /// Sends the first `LEN` bytes, all of which must be written by now (the verifier checks it on kernels that
    /// forbid reading a stack's leftovers). The hit is dated.
    #[inline(always)]
    pub fn send<const LEN: usize, C: EbpfContext>(&mut self, ctx: &C, hit: &Hit) {
        const { assert!(LEN <= size_of::<Record>()) };
        // SAFETY: LEN bytes of this draft.
        unsafe { send::<LEN, _>(ctx, Desk::of(hit.pid_tgid).as_ref(), self.record().cast()) }
        lap::record(hit);
    }

    /// The same, for pricing: nobody reads it, and whether there was room does not matter.
    #[inline(always)]
    pub fn send_priced<const LEN: usize, C: EbpfContext>(&mut self, ctx: &C, hit: &Hit) {
        const { assert!(LEN <= size_of::<Record>()) };
        if let Some(desk) = Desk::priced() {
            // SAFETY: as above.
            let _ = unsafe { desk.lay::<LEN, _>(ctx, &PRICED, self.record().cast()) };
        }
        lap::record(hit);
    }
}

/// Fills in the bare part of a record.
///
/// # Safety
/// `record` must point to memory of the program's own, at least [`observer_common::RECORD_BARE`] bytes of it.
#[inline(always)]
pub unsafe fn describe(record: *mut Record, hit: &Hit, kind: RecordKind, flags: u16, sp: u64, subject: u64, far: u64) {
    // SAFETY: the caller's promise; every field is plain.
    unsafe {
        (*record).ts = hit.ts;
        (*record).cookie = if by_address() { hit.at } else { hit.cookie };
        (*record).sp = sp;
        (*record).subject = subject;
        (*record).tid = hit.tid();
        (*record).tgid = hit.tgid();
        (*record).kind = kind as u16;
        (*record).flags = if by_address() { flags | FLAG_BY_ADDRESS } else { flags };
        (*record).target = if by_address() { hit.target() } else { 0 };
        (*record).far = far;
    }
}

/// Lays a record onto the thread's desk, from where it is sent with others, or puts it into this CPU's ring where there is none; or counts
/// it as lost.
///
/// # Safety
/// `record` must point to `LEN` written bytes of the program's own.
#[inline(always)]
pub unsafe fn send<const LEN: usize, C: EbpfContext>(ctx: &C, desk: Option<&Desk>, record: *mut u64) {
    // SAFETY: the caller's promise.
    let sent = match desk {
        Some(desk) => unsafe { desk.lay::<LEN, _>(ctx, &RECORDS, record) },
        None => unsafe { ring::put(ctx, &RECORDS, record.cast(), LEN as u64) },
    };
    if !sent {
        maps::count(Counter::Lost);
    }
}

/// Puts a record into this CPU's ring, by itself, or counts it as lost.
///
/// # Safety
/// `bytes` must point to `len` written bytes of the program's own.
#[inline(always)]
pub unsafe fn send_alone<C: EbpfContext>(ctx: &C, bytes: *mut c_void, len: u64) {
    // SAFETY: the caller's promise.
    if !unsafe { ring::put(ctx, &RECORDS, bytes, len) } {
        maps::count(Counter::Lost);
    }
}
