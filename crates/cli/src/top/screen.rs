//! The live view: the tables on the whole terminal, until a user presses `q`.

use std::time::{Duration, Instant};

use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Block, Paragraph};
use ratatui::Frame;

use super::tables::{Sample, Tables, LOCKS, POOLS, QUEUES, SEGMENTS, SERVICES, TOPICS};
use super::terminal::{Input, Screen};
use crate::output::table;
use crate::Outcome;

/// Samples and draws at every interval, until a key or a signal ends the program.
pub(super) fn run(interval: Duration, sample: impl Fn() -> pagemate::Result<Sample>) -> Outcome {
    let mut before = sample()?;
    let mut screen = Screen::take()?;
    // The second sample follows soon after the first, so that rates appear at once.
    let mut next = Instant::now() + interval.min(Duration::from_millis(200));
    let mut tables = Tables::new(&before, &before);
    loop {
        screen.draw(|frame| draw(frame, &tables))?;
        loop {
            let left = next.saturating_duration_since(Instant::now());
            match screen.wait(left)? {
                Input::End => return Ok(()),
                Input::Redraw => break,
                Input::Nothing if left.is_zero() => {
                    let now = sample()?;
                    tables = Tables::new(&before, &now);
                    before = now;
                    next = Instant::now() + interval;
                    break;
                }
                Input::Nothing => {}
            }
        }
    }
}

fn draw(frame: &mut Frame<'_>, tables: &Tables) {
    let panels = [
        (" segments ", table(SEGMENTS, &tables.segment_rows()) + &tables.unreadable()),
        (" queues ", table(QUEUES, &tables.queue_rows())),
        (" topics ", table(TOPICS, &tables.topic_rows())),
        (" services ", table(SERVICES, &tables.service_rows())),
        (" locks ", table(LOCKS, &tables.lock_rows())),
        (" pools ", table(POOLS, &tables.pool_rows())),
    ];
    // Tables with more rows get more of the height.
    let heights = panels.each_ref().map(|(_, text)| Constraint::Fill(text.lines().count() as u16 + 2));
    let areas: [Rect; 6] = Layout::vertical(heights).areas(frame.area());
    for ((title, text), area) in panels.into_iter().zip(areas) {
        let mut lines = text.lines().map(|line| Line::from(line.to_string()));
        let head = lines.next().map(|line| line.style(Style::new().add_modifier(Modifier::BOLD)));
        let text = Text::from_iter(head.into_iter().chain(lines));
        let block = Block::bordered().title(title).title_bottom(Line::from(" q ends ").right_aligned());
        frame.render_widget(Paragraph::new(text).block(block), area);
    }
}
