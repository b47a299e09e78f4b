//! All that takes part: a line for each file.

mod locks;
mod meetings;
mod names;
mod queue;
mod signals;
mod values;

use crate::member::Recipe;

pub fn recipes() -> impl Iterator<Item = &'static Recipe> {
    let all = [
        queue::RECIPES,
        locks::RECIPES,
        signals::RECIPES,
        meetings::RECIPES,
        values::RECIPES,
        names::RECIPES,
    ];
    all.into_iter().flatten()
}
