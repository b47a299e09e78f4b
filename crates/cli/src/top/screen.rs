//! The live view: the tables on the whole terminal, until somebody presses `q`.

use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Block, Paragraph};
use ratatui::{DefaultTerminal, Frame};

use super::board::{Board, Sample, LOCKS, POOLS, QUEUES, SEGMENTS};
use crate::output::table;
use crate::{interrupt, Outcome};

/// How long a signal that asks for an end may go unnoticed.
const GLANCE: Duration = Duration::from_millis(100);

/// Looks, shows, waits; again and again.
pub(super) fn run(interval: Duration, sample: impl Fn() -> pagemate::Result<Sample>) -> Outcome {
    let mut before = sample()?;
    interrupt::install()?;
    let mut terminal =
        ratatui::try_init().map_err(|error| format!("the terminal cannot be drawn on: {error}"))?;
    let outcome = show(&mut terminal, interval, &mut before, sample);
    ratatui::restore();
    outcome
}

fn show(
    terminal: &mut DefaultTerminal,
    interval: Duration,
    before: &mut Sample,
    sample: impl Fn() -> pagemate::Result<Sample>,
) -> Outcome {
    // The first look is soon followed by the second: nobody wants to wait for rates.
    let mut next = Instant::now() + interval.min(Duration::from_millis(200));
    let mut board = Board::new(before, before);
    loop {
        terminal.draw(|frame| draw(frame, &board))?;
        loop {
            let left = next.saturating_duration_since(Instant::now());
            if interrupt::requested() {
                return Err("interrupted".into());
            }
            if left.is_zero() {
                break;
            }
            match event::poll(left.min(GLANCE)) {
                Ok(false) => {}
                Ok(true) => match event::read()? {
                    Event::Key(key) if ends(key) => return Ok(()),
                    Event::Resize(..) => break,
                    _ => {}
                },
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        if Instant::now() >= next {
            let now = sample()?;
            board = Board::new(before, &now);
            *before = now;
            next = Instant::now() + interval;
        }
    }
}

fn ends(key: KeyEvent) -> bool {
    let is_control_c = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind == KeyEventKind::Press && (is_control_c || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc))
}

fn draw(frame: &mut Frame<'_>, board: &Board) {
    let tables = [
        (" segments ", table(SEGMENTS, &board.segment_rows())),
        (" queues ", table(QUEUES, &board.queue_rows())),
        (" locks ", table(LOCKS, &board.lock_rows())),
        (" pools ", table(POOLS, &board.pool_rows())),
    ];
    // What has more rows gets more of the room.
    let heights = tables.each_ref().map(|(_, text)| Constraint::Fill(text.lines().count() as u16 + 2));
    let areas: [Rect; 4] = Layout::vertical(heights).areas(frame.area());
    for ((title, text), area) in tables.into_iter().zip(areas) {
        let mut lines = text.lines().map(|line| Line::from(line.to_string()));
        let head = lines.next().map(|line| line.style(Style::new().add_modifier(Modifier::BOLD)));
        let text = Text::from_iter(head.into_iter().chain(lines));
        let block = Block::bordered().title(title).title_bottom(Line::from(" q ends ").right_aligned());
        frame.render_widget(Paragraph::new(text).block(block), area);
    }
}
