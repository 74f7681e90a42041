//! One SVG document to planar RGB bytes on white.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use resvg::tiny_skia::{Color, Pixmap, Transform};
use resvg::usvg::{Options, Tree};

thread_local! {
    /// Whether a panic of this thread is expected and caught.
    static DRAWING: Cell<bool> = const { Cell::new(false) };
}

/// Makes panics silent on threads that are drawing; all others go to the hook that was there before.
fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !DRAWING.try_with(Cell::get).unwrap_or(false) {
                previous(info);
            }
        }));
    });
}

/// Draws `svg` fitted and centred into a white square.
///
/// # Shapes
/// Returns `[3, size, size]` bytes, RGB planes.
///
/// # Errors
/// What the parser said, or that the rasteriser panicked (a few published drawings make it).
pub fn draw(svg: &str, size: usize) -> Result<Vec<u8>, String> {
    install_hook();
    DRAWING.set(true);
    // Nothing outside the closure is touched by it, so nothing can be left half done.
    let result = catch_unwind(AssertUnwindSafe(|| draw_unprotected(svg, size)));
    DRAWING.set(false);
    result.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(ToString::to_string);
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(format!("rasteriser failed: {text}"))
    })
}

fn draw_unprotected(svg: &str, size: usize) -> Result<Vec<u8>, String> {
    let tree = Tree::from_str(svg, &Options::default()).map_err(|e| e.to_string())?;
    let mut pixmap = Pixmap::new(size as u32, size as u32).ok_or("no room for a picture")?;
    pixmap.fill(Color::WHITE);
    let (width, height) = (tree.size().width(), tree.size().height());
    let side = size as f32;
    let scale = side / width.max(height);
    let place =
        Transform::from_row(scale, 0.0, 0.0, scale, (side - width * scale) / 2.0, (side - height * scale) / 2.0);
    resvg::render(&tree, place, &mut pixmap.as_mut());
    let data = pixmap.data();
    // The paper is opaque, so premultiplied and plain colours are the same.
    Ok((0..3).flat_map(|channel| data.iter().skip(channel).step_by(4).copied()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(width: u32, height: u32, body: &str) -> String {
        format!("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\">{body}</svg>")
    }

    #[test]
    fn planes_are_red_green_blue_on_white() {
        let pixels = draw(&document(4, 4, "<rect width=\"2\" height=\"4\" fill=\"#ff8000\"/>"), 4).unwrap();
        let row = |channel: usize| pixels[channel * 16..channel * 16 + 4].to_vec();
        assert_eq!((row(0), row(1), row(2)), (vec![255; 4], vec![128, 128, 255, 255], vec![0, 0, 255, 255]));
    }

    #[test]
    fn a_wide_picture_is_centred_and_not_stretched() {
        let pixels = draw(&document(8, 4, "<rect width=\"8\" height=\"4\"/>"), 8).unwrap();
        let column: Vec<u8> = (0..8).map(|y| pixels[y * 8]).collect();
        assert_eq!(column, [255, 255, 0, 0, 0, 0, 255, 255]);
    }

    #[test]
    fn nonsense_is_an_error_and_a_panic_is_caught() {
        assert!(draw("<svg", 8).is_err());
        let panics = || -> Result<Vec<u8>, String> { panic!("boom") };
        install_hook();
        assert!(catch_unwind(panics).is_err());
    }
}
