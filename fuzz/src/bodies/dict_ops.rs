//! Operations on a dict of bytes and a dict of numbers beside two `HashMap`s, in a segment that is
//! soon full.

use std::collections::HashMap;

use pagemate::{Dict, ErrorKind, Segment};

use super::Supply;

/// So little that some insertions fail, which must then change nothing.
const SIZE: u64 = 1 << 20;

pub fn run(data: &[u8]) {
    let mut supply = Supply(data);
    let segment = Segment::new(SIZE).expect("a small segment");
    let bytes = Dict::<[u8], [u8]>::create(segment.at("bytes")).expect("a dict");
    let numbers = Dict::<u16, [u8; 12]>::create(segment.at("numbers")).expect("another");
    let mut bytes_twin: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
    let mut numbers_twin: HashMap<u16, [u8; 12]> = HashMap::new();
    while !supply.is_empty() {
        let op = supply.byte();
        let len = usize::from(supply.byte() % 20);
        let key = supply.bytes(len);
        let number = u16::from(supply.byte());
        match op % 9 {
            0..=2 => {
                let value = vec![op; usize::from(supply.byte()) * usize::from(op)];
                match bytes.insert(&key, &value) {
                    Ok(is_new) => assert_eq!(is_new, bytes_twin.insert(key.clone(), value).is_none()),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::OutOfMemory),
                }
            }
            3 => match numbers.insert(&number, &[op; 12]) {
                Ok(is_new) => assert_eq!(is_new, numbers_twin.insert(number, [op; 12]).is_none()),
                Err(error) => assert_eq!(error.kind(), ErrorKind::OutOfMemory),
            },
            4 => assert_eq!(bytes.remove(&key).expect("a removal"), bytes_twin.remove(&key)),
            5 => assert_eq!(numbers.remove(&number).expect("a removal"), numbers_twin.remove(&number)),
            6 => {
                if let Some((key, value)) = bytes.pop().expect("any entry") {
                    assert_eq!(bytes_twin.remove(&key), Some(value));
                }
            }
            7 => {
                let current = numbers_twin.get(&number).copied();
                let expected = (op >= 128).then_some([op; 12]);
                let result =
                    numbers.compare_exchange(&number, expected.as_ref(), None).expect("no allocation");
                assert_eq!(result, if current == expected { Ok(()) } else { Err(current) });
                if current == expected {
                    numbers_twin.remove(&number);
                }
            }
            _ if op > 250 => {
                bytes.clear().expect("nothing to be refused");
                bytes_twin.clear();
            }
            _ => {}
        }
        assert_eq!(bytes.get(&key).expect("no damage"), bytes_twin.get(&key).cloned());
        assert_eq!(numbers.get(&number).expect("no damage"), numbers_twin.get(&number).copied());
        assert_eq!(bytes.len().expect("no death"), bytes_twin.len());
    }
    let all: Result<HashMap<_, _>, _> = bytes.iter().collect();
    assert_eq!(all.expect("no damage"), bytes_twin);
    let all: Result<HashMap<_, _>, _> = numbers.iter().collect();
    assert_eq!(all.expect("no damage"), numbers_twin);
}
