//! Any bytes as a body, in every form: it is refused, or its elements stand in it, in their order; and rows of CSV are
//! JSON objects that don't take more room than they may.
#![no_main]

use actlog_intake::{Form, divide};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (u8, &[u8])| {
    let (choice, body) = input;
    let form = [Form::Json, Form::Lines, Form::Csv][usize::from(choice % 3)];
    let Ok(elements) = divide(body, form) else { return };
    let places = elements.list.iter().map(|element| &element.place);
    assert!(places.clone().zip(places.skip(1)).all(|(place, next)| place.end <= next.start));
    assert!(elements.list.windows(2).all(|pair| pair[0].line <= pair[1].line));
    for element in &elements.list {
        let part = &body[element.place.clone()];
        match form {
            Form::Csv => assert!(serde_json::from_slice::<serde_json::Map<_, _>>(&element.bytes).is_ok()),
            _ => assert_eq!(part, &*element.bytes),
        }
    }
    let room: usize = elements.list.iter().map(|element| element.bytes.len()).sum();
    assert!(room <= 16 * body.len() + (1 << 20));
    assert!(elements.refused.iter().all(|one| one.place.end <= body.len()));
});
