//! Helpers of the live tests: fixtures, the observer under test, its JSON.
