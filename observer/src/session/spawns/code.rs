//! The code of one process: where each image is mapped, how its frames are unwound, what its functions are called.
//!
//! Does not know: stacks, tasks. Images are read when they are first needed.

use std::collections::HashMap;
use std::fs::File;
use std::sync::Arc;

use crate::model::{Bias, Caller, Cfa, FunctionName, ImagePlace, LoadSegment, NoRule, ProcAddr, UnwindRule, VirtAddr};
use crate::runtime::is_machinery;
use crate::session::Names;
use crate::session::apart::Apart;
use crate::symbols::{Image, Segment, UnwindTable, ends_in_call, fixed_frame, name_frames};
use crate::target::{Backing, Module, Process};

use super::vdso::Vdso;

/// More rules than these are not remembered at once.
const MOST_RULES: usize = 1 << 16;
/// Pages begin at multiples of this.
const SMALLEST_PAGE: u64 = 4096;
/// Bytes of a function that its prologue is looked for in.
const PROLOGUE: usize = 256;

/// The images of one process.
pub(in crate::session) struct Code {
    process: Arc<Process>,
    /// Where debug information is looked for that lies apart from its image.
    names: Names,
    modules: Vec<(Module, State)>,
    rules: HashMap<ProcAddr, Result<UnwindRule, NoRule>>,
    /// Rules without registers, of those that ask for one.
    fixed: HashMap<ProcAddr, UnwindRule>,
    /// The modules were listed since the last turn: a place in none of them is in none.
    listed: bool,
    /// `None` until it is needed.
    vdso: Option<Option<Vdso>>,
}

/// What is known of a module's image.
enum State {
    NotRead,
    /// Open, so that it can be read when its process is gone.
    Opened(File),
    /// It could not be read, or is no image: nothing leads on from it.
    Unreadable(NoRule),
    Read(Read),
}

struct Read {
    /// As it was opened before; `None` where it is opened when it is wanted.
    file: Option<File>,
    bias: Bias,
    table: Option<UnwindTable>,
}

/// A call that is to be named: which stack's, which of its calls, and a place within it.
struct Asked {
    of: usize,
    n: usize,
    inside: VirtAddr,
}

impl Code {
    pub(in crate::session) fn new(process: Arc<Process>, names: Names) -> Self {
        Self {
            process,
            names,
            modules: Vec::new(),
            rules: HashMap::new(),
            fixed: HashMap::new(),
            listed: false,
            vdso: None,
        }
    }

    /// Begins a turn: what was mapped since the last one may be found in this one.
    pub(in crate::session) fn look_anew(&mut self) {
        self.listed = false;
    }

    /// Reads the images that hold these places, so that nothing waits for it later.
    pub(in crate::session) fn read_at(&mut self, places: impl IntoIterator<Item = ProcAddr>) {
        for place in places {
            if let Some(index) = self.executing(place) {
                // Why one cannot be read is told to whoever asks for a rule of it.
                let _ = self.read(index);
            }
        }
    }

    /// Opens images that are mapped now, so many at most, so that they can be read when the process is gone. Gives how many.
    pub(in crate::session) fn open(&mut self, most: usize) -> usize {
        self.list();
        let unread = self.modules.iter_mut().filter(|(_, state)| matches!(state, State::NotRead));
        let mut opened = 0;
        for (module, state) in unread.take(most) {
            // What cannot be opened may be tried again.
            if let Ok(file) = module.file() {
                *state = State::Opened(file);
                opened += 1;
            }
        }
        opened
    }

    /// The rule for the instruction that the address is in.
    pub(in crate::session) fn rule_at(&mut self, at: ProcAddr) -> Result<UnwindRule, NoRule> {
        if let Some(known) = self.rules.get(&at) {
            return *known;
        }
        let rule = self.read_rule(at);
        // A place in no image today may be in one tomorrow.
        if rule != Err(NoRule::NoImage) {
            if self.rules.len() >= MOST_RULES {
                self.rules.clear();
            }
            self.rules.insert(at, rule);
        }
        rule
    }

    /// As [`Code::rule_at`], for a stack whose registers are not known: where the rule asks for the frame pointer, by how far the
    /// function's prologue moves the stack pointer. That must be checked, see [`Code::are_calls`].
    pub(in crate::session) fn rule_without_registers_at(&mut self, at: ProcAddr) -> Result<UnwindRule, NoRule> {
        let rule = self.rule_at(at)?;
        let Cfa::Register(..) = rule.cfa else { return Ok(rule) };
        if let Some(known) = self.fixed.get(&at) {
            return Ok(*known);
        }
        let distance = self.function_before(at).as_deref().and_then(fixed_frame);
        let UnwindRule { cfa, return_address, kept } = rule;
        let rule = UnwindRule { cfa: distance.map_or(cfa, Cfa::Sp), return_address, kept };
        if self.fixed.len() >= MOST_RULES {
            self.fixed.clear();
        }
        self.fixed.insert(at, rule);
        Ok(rule)
    }

    /// The code of the function that the address is in, up to there; its beginning, of a long one.
    fn function_before(&mut self, at: ProcAddr) -> Option<Vec<u8>> {
        let index = self.executing(at)?;
        let Read { bias, table, .. } = self.read(index).ok()?;
        let start = bias.to_process(table.as_ref()?.start_of(bias.to_virtual(at))?);
        let mut code = vec![0; usize::try_from(at.0.checked_sub(start.0)?).ok()?.min(PROLOGUE)];
        self.process.memory().read_exact(start, &mut code).ok()?;
        Some(code)
    }

    /// Whether each of these is where a call returns to.
    pub(in crate::session) fn are_calls(&self, returns: &[ProcAddr]) -> bool {
        returns.iter().all(|at| {
            let mut before = [0; 8];
            let from = ProcAddr(at.0.wrapping_sub(before.len() as u64));
            self.process.memory().read_exact(from, &mut before).is_ok() && ends_in_call(&before)
        })
    }

    fn read_rule(&mut self, at: ProcAddr) -> Result<UnwindRule, NoRule> {
        let Some(index) = self.executing(at) else {
            let vdso = self.vdso.get_or_insert_with(|| Vdso::of(&self.process));
            let rule = vdso.as_ref().and_then(|vdso| vdso.rule_at(at));
            return rule.unwrap_or_else(|| match self.is_trampoline(at) {
                true => Err(NoRule::Trampoline),
                // What it had mapped there is not told any more.
                false if self.process.has_ended() => Err(NoRule::Ended),
                false => Err(NoRule::NoImage),
            });
        };
        let read = self.read(index)?;
        let table = read.table.as_ref().ok_or(NoRule::NoTable)?;
        table.rule_at(read.bias.to_virtual(at))
    }

    /// Whether the address is in the page that the kernel maps for probes. Functions whose return is probed return to its very
    /// beginning: what is asked for is the byte before it. No other place is worth a look at all mappings, which code that was
    /// made at run time would ask for again and again.
    fn is_trampoline(&self, at: ProcAddr) -> bool {
        let is_it = |backing: &Backing| matches!(backing, Backing::Special(name) if name.contains("[uprobes]"));
        let returned = ProcAddr(at.0.saturating_add(1));
        if !returned.0.is_multiple_of(SMALLEST_PAGE) {
            return false;
        }
        let maps = self.process.maps();
        maps.is_ok_and(|maps| maps.iter().any(|mapping| mapping.range.contains(returned) && is_it(&mapping.backing)))
    }

    /// Whether all these places are code of one image, whose data the other place is.
    pub(in crate::session) fn is_of_one_image(&mut self, data: ProcAddr, code: &[ProcAddr]) -> bool {
        self.list();
        let holds = |module: &Module, at: ProcAddr, execute: bool| {
            let mut mappings = module.mappings.iter();
            mappings.any(|mapping| mapping.permissions.execute == execute && mapping.range.contains(at))
        };
        let mut modules = self.modules.iter().map(|(module, _)| module);
        let home = modules.find(|module| holds(module, data, false));
        home.is_some_and(|home| code.iter().all(|at| holds(home, *at, true)))
    }

    /// What the calls of a stack are, innermost first: for each address its place and the functions there.
    pub(in crate::session) fn callers(&mut self, addresses: &[ProcAddr]) -> Vec<Caller> {
        self.callers_of(&[addresses]).pop().unwrap_or_default()
    }

    /// The same of several stacks: each image is read once for all of them.
    pub(in crate::session) fn callers_of(&mut self, stacks: &[&[ProcAddr]]) -> Vec<Vec<Caller>> {
        let bare = |address: &ProcAddr| Caller { address: *address, image: None, functions: Vec::new() };
        let mut callers: Vec<Vec<Caller>> = stacks.iter().map(|stack| stack.iter().map(bare).collect()).collect();
        let mut by_module: HashMap<usize, Vec<Asked>> = HashMap::new();
        let addresses =
            stacks.iter().enumerate().flat_map(|(of, stack)| stack.iter().enumerate().map(move |one| (of, one)));
        // A return address may stand behind the caller's last instruction: the call is the one before.
        let places = addresses.map(|(of, (n, address))| (of, n, address, address.0.wrapping_sub(u64::from(n > 0))));
        let places: Vec<_> = places.map(|(of, n, address, place)| (of, n, address, ProcAddr(place))).collect();
        // Modules may be listed anew for any of them, which gives them other numbers: only then are numbers taken.
        for (.., place) in &places {
            self.executing(*place);
        }
        for (of, n, address, place) in places {
            let Some(index) = self.executing(place) else { continue };
            let path = self.modules[index].0.path.clone();
            let Ok(read) = self.read(index) else { continue };
            let (at, inside) = (read.bias.to_virtual(*address), read.bias.to_virtual(place));
            let function = read.table.as_ref().and_then(|table| table.start_of(inside));
            callers[of][n].image = Some(ImagePlace { path, at, function });
            by_module.entry(index).or_default().push(Asked { of, n, inside });
        }
        for (index, places) in by_module {
            // What cannot be read any more leaves its calls unnamed.
            let (module, State::Read(Read { file, .. })) = &self.modules[index] else { continue };
            let Ok(bytes) = file.as_ref().map_or_else(|| module.read(), |file| module.read_file(file)) else {
                continue;
            };
            let Ok(image) = Image::parse(&bytes) else { continue };
            // Which file it is, or that it is another build's, is said where types are named.
            let quietly = |_, _: &str| ();
            let apart = Apart::of(&self.names, module, &image, &quietly);
            let image = apart.given_to(image);
            let asked: Vec<VirtAddr> = places.iter().map(|asked| asked.inside).collect();
            for (Asked { of, n, .. }, functions) in places.into_iter().zip(name_frames(&image, &asked)) {
                let functions = functions.into_iter().map(|named| FunctionName {
                    machinery: is_machinery(&named.name),
                    name: named.name,
                    certain: named.certain,
                    place: named.place,
                });
                callers[of][n].functions = functions.collect();
            }
        }
        callers
    }

    /// The module whose code is at the address.
    fn executing(&mut self, at: ProcAddr) -> Option<usize> {
        let find = |modules: &[(Module, State)]| {
            let executes = |module: &Module| {
                let mut code = module.mappings.iter().filter(|mapping| mapping.permissions.execute);
                code.any(|mapping| mapping.range.contains(at))
            };
            modules.iter().position(|(module, _)| executes(module))
        };
        let found = find(&self.modules);
        if found.is_some() || !self.list() {
            return found;
        }
        find(&self.modules)
    }

    /// Lists the modules, once a turn; whether it did.
    fn list(&mut self) -> bool {
        if self.listed {
            return false;
        }
        self.listed = true;
        // Of a process that is gone the old list is the best there is; one that is about to go maps nothing any more.
        let Some(modules) = self.process.modules().ok().filter(|modules| !modules.is_empty()) else { return false };
        let mut known = std::mem::take(&mut self.modules);
        let place = |module: &Module| (module.file, module.mappings.first().map(|mapping| mapping.range));
        self.modules = modules
            .into_iter()
            .map(|module| match known.iter().position(|(old, _)| place(old) == place(&module)) {
                Some(n) => (module, known.swap_remove(n).1),
                None => (module, State::NotRead),
            })
            .collect();
        // What was mapped there before may have been something else.
        if !known.is_empty() {
            self.rules.clear();
            self.fixed.clear();
        }
        true
    }

    fn read(&mut self, index: usize) -> Result<&Read, NoRule> {
        let (module, state) = &mut self.modules[index];
        let opened = match std::mem::replace(state, State::Unreadable(NoRule::Unread)) {
            State::NotRead => None,
            State::Opened(file) => Some(file),
            known @ (State::Read(_) | State::Unreadable(_)) => {
                *state = known;
                return state.read();
            }
        };
        *state = read(module, opened, &self.process).map_or_else(State::Unreadable, State::Read);
        state.read()
    }
}

impl State {
    fn read(&self) -> Result<&Read, NoRule> {
        match self {
            Self::Read(read) => Ok(read),
            Self::Unreadable(why) => Err(*why),
            Self::NotRead | Self::Opened(_) => Err(NoRule::Unread),
        }
    }
}

fn read(module: &Module, file: Option<File>, process: &Process) -> Result<Read, NoRule> {
    let bytes = file.as_ref().map_or_else(|| module.read(), |file| module.read_file(file));
    let bytes = bytes.map_err(|_| if process.has_ended() { NoRule::Ended } else { NoRule::Unread })?;
    let image = Image::parse(&bytes).map_err(|_| NoRule::Unread)?;
    let segments: Vec<LoadSegment> = image.segments().iter().map(Segment::load).collect();
    let bias = module.bias(&segments).ok_or(NoRule::Unread)?;
    Ok(Read { bias, table: UnwindTable::of(&image), file })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::sleeper::Sleeper;

    /// Where the program's own code begins, and where nothing is mapped.
    fn places(process: &Process) -> [ProcAddr; 2] {
        let modules = process.modules().expect("it lives");
        let exe = modules.iter().find(|module| module.is_exe).expect("it runs a program");
        let code = exe.mappings.iter().find(|mapping| mapping.permissions.execute).expect("which has code");
        [code.range.start, ProcAddr(8)]
    }

    #[test]
    fn what_was_mapped_is_known_when_the_process_is_about_to_go() {
        let mut sleeper = Sleeper::start();
        let process = Arc::new(sleeper.process());
        let [inside, outside] = places(&process);
        let mut code = Code::new(Arc::clone(&process), Names::Unwanted);
        let opened = code.open(256);
        assert!(opened > 0);
        let mut listed = Code::new(Arc::clone(&process), Names::Unwanted);
        listed.list();
        // It stays a zombie, which maps nothing.
        sleeper.kill();
        while process.modules().is_ok_and(|modules| !modules.is_empty()) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        code.look_anew();
        // What was not read by then says nothing of the image.
        let mut late = Code::new(Arc::clone(&process), Names::Unwanted);
        assert_eq!([late.rule_at(inside), listed.rule_at(inside)], [Err(NoRule::Ended); 2]);
        // The one that is not known makes it look again.
        let [known, unknown] = &code.callers_of(&[&[inside], &[outside]])[..] else { panic!("two stacks") };
        assert!(known[0].image.is_some() && unknown[0].image.is_none(), "{known:?} {unknown:?}");
    }
}
