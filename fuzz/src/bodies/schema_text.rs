//! Any text as a schema: it is refused, or it prints as itself again and renders any bytes.

use pagemate::Schema;

pub fn run(data: &[u8]) {
    let (bytes, text) = data.split_at(data.len().min(16));
    let Ok(text) = std::str::from_utf8(text) else { return };
    let Ok(schema) = text.parse::<Schema>() else { return };
    let again: Schema = schema.to_string().parse().expect("what was printed can be read");
    assert_eq!(again.fingerprint(), schema.fingerprint());
    let _ = schema.render(bytes);
}
