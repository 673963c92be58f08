//! PNG and JPEG files as pixels, told apart by their first bytes.

use std::io::Cursor;
use std::path::Path;

use png::Transformations;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use crate::formats::FormatError;
use crate::formats::input::read_whole;

/// The largest file of one picture.
const LARGEST_FILE: u64 = 256 << 20;
/// The most pixels of one picture.
const MOST_PIXELS: usize = 1 << 26;
/// What the PNG decoder may hold beside the pixels.
const DECODER_BYTES: usize = 64 << 20;

/// Pixels of 8 bits, row by row, channels last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    pub height: usize,
    pub width: usize,
    /// 1 grey, 2 grey and alpha, 3 red, green and blue, 4 those and alpha.
    pub channels: usize,
    pub pixels: Vec<u8>,
}

/// Reads a picture.
///
/// # Errors
/// If it is neither PNG nor JPEG, or broken, or larger than the limits.
pub fn read(path: &Path) -> Result<Picture, FormatError> {
    let bytes = read_whole(path, LARGEST_FILE)?;
    let picture = match &bytes[..] {
        [0x89, b'P', b'N', b'G', ..] => decode_png(&bytes),
        [0xff, 0xd8, ..] => decode_jpeg(&bytes),
        _ => Err("neither a PNG nor a JPEG file".into()),
    };
    picture.map_err(|message| FormatError::content(path, message))
}

fn check_size(height: usize, width: usize) -> Result<(), String> {
    match height.checked_mul(width) {
        Some(1..=MOST_PIXELS) => Ok(()),
        _ => Err(format!("{height} times {width} pixels, expected 1 to {MOST_PIXELS}")),
    }
}

fn decode_png(bytes: &[u8]) -> Result<Picture, String> {
    let broken = |error: png::DecodingError| format!("the PNG file is broken: {error}");
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), png::Limits { bytes: DECODER_BYTES });
    decoder.set_transformations(Transformations::normalize_to_color8());
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let header = decoder.read_header_info().map_err(broken)?;
    check_size(header.height as usize, header.width as usize)?;
    let mut reader = decoder.read_info().map_err(broken)?;
    let (height, width) = (reader.info().height as usize, reader.info().width as usize);
    let size = reader.output_buffer_size().ok_or("the picture does not fit in memory")?;
    let mut pixels = vec![0; size];
    let info = reader.next_frame(&mut pixels).map_err(broken)?;
    reader.finish().map_err(broken)?;
    pixels.truncate(info.buffer_size());
    let channels = info.color_type.samples();
    picture(height, width, channels, pixels)
}

fn decode_jpeg(bytes: &[u8]) -> Result<Picture, String> {
    let broken = |error: zune_jpeg::errors::DecodeErrors| format!("the JPEG file is broken: {error}");
    // Other programs read files that lack their last bytes; data with a grey half is better refused.
    let options = DecoderOptions::default().set_strict_mode(true).set_max_width(1 << 16).set_max_height(1 << 16);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(broken)?;
    let (width, height) = decoder.dimensions().ok_or("the JPEG file has no header")?;
    check_size(height, width)?;
    let (space, channels) = match decoder.input_colorspace() {
        Some(ColorSpace::Luma) => (ColorSpace::Luma, 1),
        _ => (ColorSpace::RGB, 3),
    };
    decoder.set_options(options.jpeg_set_out_colorspace(space));
    let pixels = decoder.decode().map_err(broken)?;
    picture(height, width, channels, pixels)
}

/// The picture, if the decoder gave as many bytes as the header says.
fn picture(height: usize, width: usize, channels: usize, pixels: Vec<u8>) -> Result<Picture, String> {
    let expected = height * width * channels;
    if pixels.len() != expected {
        return Err(format!("expected {expected} bytes of pixels, found {}", pixels.len()));
    }
    Ok(Picture { height, width, channels, pixels })
}

impl Picture {
    /// The picture with 1, 3 or 4 channels: grey is `0.299 r + 0.587 g + 0.114 b`, a missing alpha is 255.
    pub fn with_channels(self, channels: usize) -> Picture {
        if self.channels == channels {
            return self;
        }
        let mut pixels = Vec::with_capacity(self.height * self.width * channels);
        for pixel in self.pixels.chunks_exact(self.channels) {
            let (colour, alpha) = match *pixel {
                [grey] => ([grey; 3], 255),
                [grey, alpha] => ([grey; 3], alpha),
                [r, g, b] => ([r, g, b], 255),
                [r, g, b, alpha, ..] => ([r, g, b], alpha),
                [] => ([0; 3], 255),
            };
            match channels {
                1 => pixels.push(grey(colour)),
                3 => pixels.extend_from_slice(&colour),
                _ => pixels.extend_from_slice(&[colour[0], colour[1], colour[2], alpha]),
            }
        }
        Picture { channels, pixels, ..self }
    }
}

/// The grey of a colour, by the weights of ITU-R 601 in units of 2^-16, as Pillow computes it.
fn grey([r, g, b]: [u8; 3]) -> u8 {
    ((u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471 + 0x8000) >> 16) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_made_and_dropped() {
        let colour = Picture { height: 1, width: 2, channels: 3, pixels: vec![255, 0, 0, 10, 10, 10] };
        assert_eq!(colour.clone().with_channels(1).pixels, [76, 10]);
        assert_eq!(colour.with_channels(4).pixels, [255, 0, 0, 255, 10, 10, 10, 255]);
        let grey = Picture { height: 1, width: 1, channels: 2, pixels: vec![7, 9] };
        assert_eq!(grey.clone().with_channels(3).pixels, [7, 7, 7]);
        assert_eq!(grey.with_channels(4).pixels, [7, 7, 7, 9]);
    }
}
