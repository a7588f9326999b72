//! Planted bugs: with the feature `planted-bugs` one of them can be switched on,
//! to prove that the campaign finds it. Some lie in storage, some in the shell
//! that is simulated here.

pub use storage::planted::{Bug, planted};
