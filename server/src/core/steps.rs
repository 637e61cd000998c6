//! Long work in turns: who has very much to look at in one go lets everybody else have a turn in between,
//! also where nothing of it has to be waited for.

/// How far a piece of work has come since others had their turn.
#[derive(Debug, Default)]
pub struct Steps(usize);

impl Steps {
    /// One more is done.
    pub async fn taken(&mut self) {
        self.0 += 1;
        if self.0 == STEPS_MAX {
            self.0 = 0;
            tokio::task::yield_now().await;
        }
    }
}

/// Looks at a presentity, or as much, in one turn.
const STEPS_MAX: usize = 32;
