//! Draws the Mandelbrot set with a pool of processes:
//! `cargo run --release --example mandelbrot -- [--check] [FILE [WIDTH]]`.
//!
//! The picture is two thirds as high as it is wide. The default file is mandelbrot.png. With
//! `--check` it is drawn again in this process alone, and must be the same.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::time::Instant;

use indicatif::ProgressBar;
use pagemate::Pool;

const STEPS: u32 = 1000;

/// Returns a row of `width` pixels, at `y` of the set's plane below the real axis.
fn row((y, width): (f64, u32)) -> Vec<u8> {
    let at = |x| {
        let (re, im) = (3.0 * f64::from(x) / f64::from(width) - 2.25, y);
        let (mut a, mut b) = (0.0, 0.0);
        for step in 0..STEPS {
            (a, b) = (a * a - b * b + re, 2.0 * a * b + im);
            if a * a + b * b > 4.0 {
                return shade(step);
            }
        }
        0
    };
    (0..width).map(at).collect()
}

/// Returns a brighter shade for points that take longer to leave. Never black, because points that
/// stay are black.
fn shade(step: u32) -> u8 {
    (255.0 * f64::from(step + 2).ln() / f64::from(STEPS + 1).ln()) as u8
}

fn rows(width: u32) -> impl ExactSizeIterator<Item = (f64, u32)> {
    let height = width * 2 / 3;
    (0..height).map(move |row| (2.0 * f64::from(row) / f64::from(height) - 1.0, width))
}

fn write(path: &Path, width: u32, rows: &[Vec<u8>]) -> Result<(), Box<dyn std::error::Error>> {
    let mut png = png::Encoder::new(BufWriter::new(File::create(path)?), width, rows.len() as u32);
    png.set_color(png::ColorType::Grayscale);
    png.set_depth(png::BitDepth::Eight);
    let mut writer = png.write_header()?;
    writer.write_image_data(&rows.concat())?;
    Ok(writer.finish()?)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    pagemate::init();
    let (options, arguments): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|argument| argument.starts_with('-'));
    let check = options == ["--check"];
    if arguments.len() > 2 || !(options.is_empty() || check) {
        return Err("usage: mandelbrot [--check] [FILE [WIDTH]]".into());
    }
    let path = arguments.first().map_or("mandelbrot.png", String::as_str);
    let width: u32 = arguments.get(1).map_or(Ok(1200), |width| width.parse())?;
    if !(3..=20_000).contains(&width) {
        return Err("3 to 20000 pixels are a possible width".into());
    }

    let pool = Pool::builder().name(format!("mandelbrot-{}", std::process::id())).build()?;
    let bar = ProgressBar::new(rows(width).len() as u64);
    let begin = Instant::now();
    // Rows near the axis take longer than others, so each row is a task of its own.
    let options = pool.task_options().chunk_size(1).progress(|done, _| bar.set_position(done as u64));
    let drawn = options.map(row, rows(width))?;
    bar.finish_and_clear();
    println!("{} rows over {} workers in {:?}", drawn.len(), pool.workers(), begin.elapsed());
    write(Path::new(path), width, &drawn)?;

    if check {
        let begin = Instant::now();
        let alone: Vec<Vec<u8>> = rows(width).map(row).collect();
        println!("{} rows in one process in {:?}", alone.len(), begin.elapsed());
        if alone != drawn {
            return Err("the pictures differ".into());
        }
        println!("the same picture");
    }
    Ok(())
}
