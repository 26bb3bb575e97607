use burn_std::Bytes;
use half::bf16;
use mm1_kernels::arena::{Buffer, end_step, floats, give_back};

/// One test, as there is one arena in a process.
#[test]
fn parts_are_apart_and_what_is_free_joins() {
    let address = |part: &Bytes| part.as_ptr().addr();
    let page = 1024;
    let [a, b, c] = [floats(page), floats(page), floats(1)].map(|part| (address(&part), part));
    assert_eq!((b.0, c.0), (a.0 + 4096, a.0 + 8192), "one after another, page by page");
    assert_eq!((a.1.len(), c.1.len()), (4096, 4));
    let start = a.0;
    drop((a, b));
    assert_eq!(address(&floats(2 * page)), start, "two that were neighbours serve one of both sizes");
    drop(c);

    // Takes and drops in an order that looks random: each part keeps what its owner wrote.
    let mut parts: Vec<(Bytes, u8)> = Vec::new();
    let mut state = 1u32;
    for round in 0..2000 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let mark = round as u8;
        if state >> 31 == 0 || parts.is_empty() {
            let mut part = floats((state >> 8) as usize % (8 * page) + 1);
            part.fill(mark);
            parts.push((part, mark));
        } else {
            let (part, mark) = parts.swap_remove((state >> 8) as usize % parts.len());
            assert!(part.iter().all(|&byte| byte == mark), "somebody else wrote here");
        }
        if round % 100 == 0 {
            end_step();
        }
        if round % 700 == 0 {
            give_back();
        }
    }
    assert!(parts.iter().all(|(part, mark)| part.iter().all(|byte| byte == mark)));
    drop(parts);

    // As numbers, of which an odd count of halves does not fill its words.
    let (mut numbers, mut halves) = (Buffer::<f32>::new(page + 1), Buffer::<bf16>::new(7));
    assert_eq!((numbers.len(), halves.len(), Buffer::<f32>::new(0).len()), (page + 1, 7, 0));
    numbers.fill(1.5);
    halves.fill(bf16::ONE);
    assert!(numbers.iter().all(|&number| number == 1.5) && halves.iter().all(|&half| half == bf16::ONE));
    let place = numbers.as_ptr().addr();
    drop((numbers, halves));
    assert_eq!(Buffer::<f32>::new(page + 1).as_ptr().addr(), place, "the next finds the same memory");

    let mut large = floats(64 * page);
    assert_eq!(address(&large), start, "all is free and one again");
    large.fill(1);
    drop(large);
    assert!(floats(64 * page).iter().all(|&byte| byte == 1), "a step finds the pages of the last one");
    (0..9).for_each(|_| end_step());
    assert!(floats(64 * page).iter().all(|&byte| byte == 0), "steps that did not need them gave them back");
}
