//! All members of the storm, one line for each file.

mod dicts;
mod family;
mod locks;
mod meetings;
mod names;
mod queue;
mod services;
mod sets;
mod signals;
mod topics;
mod values;
mod varied_topics;

use crate::member::Recipe;

pub fn recipes() -> impl Iterator<Item = &'static Recipe> {
    let all = [
        queue::RECIPES,
        topics::RECIPES,
        varied_topics::RECIPES,
        services::RECIPES,
        locks::RECIPES,
        signals::RECIPES,
        meetings::RECIPES,
        values::RECIPES,
        names::RECIPES,
        sets::RECIPES,
        dicts::RECIPES,
        family::RECIPES,
    ];
    all.into_iter().flatten()
}
