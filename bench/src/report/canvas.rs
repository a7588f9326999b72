//! A picture of rectangles and text: pixels in memory, PNG at the end.
//!
//! Invariant: what lies beyond the edges is cut off. The glyphs are those of Noto Sans Mono,
//! rasterised at build time of their crate, so a picture needs no font of the machine.

use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

use crate::failure::Failure;

/// Bytes of a pixel.
const PIXEL: usize = 3;

/// Red, green, blue.
pub type Colour = [u8; PIXEL];

/// A size and a weight of text.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    weight: FontWeight,
    height: RasterHeight,
}

/// For the bulk of the text.
pub const PLAIN: Style = Style {
    weight: FontWeight::Regular,
    height: RasterHeight::Size16,
};
/// For headings.
pub const STRONG: Style = Style {
    weight: FontWeight::Bold,
    height: RasterHeight::Size20,
};

impl Style {
    /// Width of a text in pixels.
    pub fn width(self, text: &str) -> usize {
        text.chars().count() * get_raster_width(self.weight, self.height)
    }
}

/// A corner and a size in pixels.
#[derive(Clone, Copy, Debug)]
pub struct Area {
    pub left: usize,
    pub top: usize,
    pub width: usize,
    pub height: usize,
}

/// The picture.
pub struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Canvas {
    /// A white one.
    pub fn new(width: usize, height: usize) -> Canvas {
        Canvas {
            width,
            height,
            pixels: vec![0xff; width * height * PIXEL],
        }
    }

    fn pixel(&mut self, left: usize, top: usize) -> Option<&mut [u8]> {
        if left >= self.width || top >= self.height {
            return None;
        }
        let from = (top * self.width + left) * PIXEL;
        self.pixels.get_mut(from..from + PIXEL)
    }

    /// Fills a rectangle.
    pub fn fill(&mut self, area: Area, colour: Colour) {
        for top in area.top..area.top + area.height {
            for left in area.left..area.left + area.width {
                if let Some(pixel) = self.pixel(left, top) {
                    pixel.copy_from_slice(&colour);
                }
            }
        }
    }

    /// Writes text whose upper left corner lies here. What has no glyph becomes a question mark.
    pub fn write(&mut self, left: usize, top: usize, text: &str, style: Style, colour: Colour) {
        let mut at = left;
        for character in text.chars() {
            let glyph = get_raster(character, style.weight, style.height)
                .or_else(|| get_raster('?', style.weight, style.height));
            let Some(glyph) = glyph else { continue };
            for (down, row) in glyph.rows().enumerate() {
                for (right, ink) in row.iter().enumerate() {
                    if let Some(pixel) = self.pixel(at + right, top + down) {
                        blend(pixel, colour, *ink);
                    }
                }
            }
            at += glyph.width();
        }
    }

    /// The picture as a file's bytes.
    pub fn png(&self) -> Result<Vec<u8>, Failure> {
        let failed = |error: png::EncodingError| Failure::Wrong(format!("no picture: {error}"));
        let size = |length: usize| u32::try_from(length).expect("pictures are small");
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, size(self.width), size(self.height));
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header().map_err(failed)?;
        writer.write_image_data(&self.pixels).map_err(failed)?;
        writer.finish().map_err(failed)?;
        Ok(bytes)
    }
}

/// Lays `ink` parts of 255 of a colour over a pixel.
fn blend(pixel: &mut [u8], colour: Colour, ink: u8) {
    for (below, above) in pixel.iter_mut().zip(colour) {
        let mixed = u32::from(*below) * u32::from(255 - ink) + u32::from(above) * u32::from(ink);
        *below = u8::try_from(mixed / 255).expect("a mean of two bytes");
    }
}
