//! Pictures in another size.

use super::decode::Picture;

/// How a picture is brought to another size; the ratio of its sides is not kept, as in Keras.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resize {
    /// The pixel at the same place.
    Nearest,
    /// Between the four nearest pixels, whose centres are at halves; no smoothing when a picture becomes smaller.
    Bilinear,
}

impl Resize {
    /// The ways by name.
    pub const NAMED: [(&'static str, Resize); 2] = [("bilinear", Resize::Bilinear), ("nearest", Resize::Nearest)];

    /// The pixels of `picture` in the size `height` times `width`.
    pub fn apply(self, picture: &Picture, height: usize, width: usize) -> Vec<u8> {
        let rows: Vec<Tap> = (0..height).map(|y| self.tap(y, height, picture.height)).collect();
        let columns: Vec<Tap> = (0..width).map(|x| self.tap(x, width, picture.width)).collect();
        let pixel =
            |y: usize, x: usize, c: usize| f64::from(picture.pixels[(y * picture.width + x) * picture.channels + c]);
        let mut out = Vec::with_capacity(height * width * picture.channels);
        for row in &rows {
            for column in &columns {
                for c in 0..picture.channels {
                    let line = |y| mix(pixel(y, column.low, c), pixel(y, column.high, c), column.share);
                    // Between 0 and 255 by construction, so the cast rounds to nearest.
                    out.push((mix(line(row.low), line(row.high), row.share) + 0.5) as u8);
                }
            }
        }
        out
    }

    /// Where the element `at` of `size` lies among `from`.
    fn tap(self, at: usize, size: usize, from: usize) -> Tap {
        let place = (at as f64 + 0.5) * from as f64 / size as f64;
        match self {
            Resize::Nearest => {
                let low = (place as usize).min(from - 1);
                Tap { low, high: low, share: 0.0 }
            }
            Resize::Bilinear => {
                let place = (place - 0.5).clamp(0.0, (from - 1) as f64);
                let low = place as usize;
                Tap { low, high: (low + 1).min(from - 1), share: place - low as f64 }
            }
        }
    }
}

/// The two neighbours of a place and the share of the second.
struct Tap {
    low: usize,
    high: usize,
    share: f64,
}

fn mix(a: f64, b: f64, share: f64) -> f64 {
    a + (b - a) * share
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(pixels: &[u8]) -> Picture {
        Picture { height: 1, width: pixels.len(), channels: 1, pixels: pixels.to_vec() }
    }

    #[test]
    fn between_pixels() {
        assert_eq!(Resize::Bilinear.apply(&row(&[0, 100]), 1, 4), [0, 25, 75, 100]);
        assert_eq!(Resize::Bilinear.apply(&row(&[0, 10, 20, 30]), 1, 2), [5, 25]);
        assert_eq!(Resize::Nearest.apply(&row(&[1, 2, 3]), 2, 6), [1, 1, 2, 2, 3, 3, 1, 1, 2, 2, 3, 3]);
        assert_eq!(Resize::Nearest.apply(&row(&[1, 2, 3, 4]), 1, 2), [2, 4]);
    }
}
