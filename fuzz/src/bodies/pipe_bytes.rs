//! Messages of any length through small pipes: boundaries are kept, nothing changes, types are
//! distinguished, and the end of file comes at the end.

use std::collections::VecDeque;
use std::time::Duration;

use pagemate::pipe::{pipe_one_way_with_capacity, PipeError};

use super::Supply;

pub fn run(data: &[u8]) {
    let mut supply = Supply(data);
    let capacity = 64 << (supply.byte() % 5);
    let Ok((mut reader, writer)) = pipe_one_way_with_capacity(capacity) else { return };
    let mut writer = Some(writer);
    let mut twin: VecDeque<Vec<u8>> = VecDeque::new();
    while !supply.is_empty() {
        match supply.byte() % 8 {
            0..=2 => {
                let count = usize::from(supply.byte());
                let bytes = supply.bytes(count);
                if let Some(writer) = &mut writer {
                    match writer.try_send_bytes(&bytes) {
                        Ok(()) => twin.push_back(bytes),
                        Err(PipeError::TimedOut) => {
                            assert!(!twin.is_empty(), "an empty pipe has room for what fits at all")
                        }
                        Err(PipeError::TooLarge) => assert!(bytes.len() + 64 > capacity),
                        Err(error) => panic!("{error}"),
                    }
                }
            }
            3 => match reader.try_recv_bytes() {
                Ok(bytes) => assert_eq!(Some(bytes), twin.pop_front()),
                Err(PipeError::TimedOut) => assert!(twin.is_empty() && writer.is_some()),
                Err(PipeError::Closed) => assert!(twin.is_empty() && writer.is_none()),
                Err(error) => panic!("{error}"),
            },
            4 => {
                let mut buffer = vec![0; usize::from(supply.byte() % 64)];
                if twin.is_empty() {
                    continue;
                }
                match reader.recv_bytes_into(&mut buffer) {
                    Ok(count) => assert_eq!(Some(&buffer[..count]), twin.pop_front().as_deref()),
                    Err(PipeError::BufferTooShort(bytes)) => {
                        assert!(bytes.len() > buffer.len());
                        assert_eq!(Some(bytes), twin.pop_front());
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            5 => {
                // Bytes are not a message of a type: they are refused, and stay in the pipe.
                if !twin.is_empty() {
                    assert!(matches!(reader.try_recv::<u64>(), Err(PipeError::TypeMismatch(_))));
                }
            }
            6 => assert_eq!(
                reader.wait_readable(Duration::ZERO).expect("a sound pipe"),
                !twin.is_empty() || writer.is_none()
            ),
            _ => {
                if supply.byte() > 250 {
                    writer = None;
                }
            }
        }
    }
}
