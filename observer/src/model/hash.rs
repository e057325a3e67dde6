//! Maps and sets for what is asked for with every record: a million times a second.

use std::collections::{HashMap, HashSet};

use foldhash::fast::RandomState;

/// As [`HashMap`], with a hash that is quick on numbers. It has a random seed, because keys come from the programs that are
/// looked at.
pub type QuickMap<K, V> = HashMap<K, V, RandomState>;

/// The same of [`HashSet`].
pub type QuickSet<K> = HashSet<K, RandomState>;
