//! The memory allocator, and memory that goes back to the system once clients have left.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use fanfare_engine::Engine;
use tokio::time::{MissedTickBehavior, interval};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PERIOD: Duration = Duration::from_secs(1);
/// For how many periods memory is given back after clients have left. The allocator waits a second with each part.
const PERIODS: u8 = 10;
/// Bytes that are allocated for a moment, and never touched. No page is shared by allocations of this size.
const WHOLE_PAGE: usize = 16 << 20;

/// Has the allocator give freed memory back after clients have left. By itself it does so only while pages are allocated
/// or freed, so a process whose clients have all left would keep what it held for them.
pub(crate) async fn give_back(engine: Arc<Engine>) {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut before, mut periods) = (0, 0);
    loop {
        ticks.tick().await;
        let now = engine.connections();
        if now < before {
            periods = PERIODS;
        }
        before = now;
        if periods > 0 {
            periods -= 1;
            drop(black_box(Vec::<u8>::with_capacity(WHOLE_PAGE)));
        }
    }
}
