//! Where a process lives: the container and the namespaces that other tools know it by.

use super::Pid;

/// What is known of it; what is not there or could not be read is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Housing {
    /// Its number in its own, innermost pid namespace, where that is not ours.
    pub own_pid: Option<Pid>,
    /// Its control group's path.
    pub cgroup: Option<String>,
    /// The container's id, as the control group names it.
    pub container: Option<String>,
}
