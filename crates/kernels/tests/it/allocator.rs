use std::time::Duration;

use mm1_kernels::allocator::{ELSEWHERE, IN_TRAINING, give_back_after, keeps_freed};

/// The option is known by its number alone: the value that mimalloc ships says that it is the right one.
#[test]
fn freed_memory_waits_for_a_second_or_shorter() {
    assert_eq!(keeps_freed(), Duration::from_secs(1));
    give_back_after(ELSEWHERE);
    assert_eq!(keeps_freed(), Duration::from_millis(100));
    give_back_after(IN_TRAINING);
    assert_eq!(keeps_freed(), Duration::from_millis(10));
}
