//! A VNC viewer without a window: RFB 3.8, raw and ZRLE, sizes, cursors. It is written after RFC 6143, and
//! not after our server.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use flate2::{Decompress, FlushDecompress};

/// How long the server may take for anything.
const LIMIT: Duration = Duration::from_secs(60);

/// Numbers of encodings.
pub const RAW: i32 = 0;
/// Compressed tiles.
pub const ZRLE: i32 = 16;
/// The size, in the guise of a rectangle.
pub const DESKTOP_SIZE: i32 = -223;
/// The same with screens.
pub const EXTENDED_DESKTOP_SIZE: i32 = -308;
/// How the cursor looks, each pixel there or not.
pub const CURSOR: i32 = -239;
/// The same with alpha.
pub const CURSOR_WITH_ALPHA: i32 = -314;
/// That keys may come with their numbers.
pub const QEMU_KEYS: i32 = -258;

/// X11's numbers of keys.
pub const RETURN: u32 = 0xff0d;
/// See [`RETURN`].
pub const ESCAPE: u32 = 0xff1b;
/// See [`RETURN`].
pub const UP: u32 = 0xff52;
/// See [`RETURN`].
pub const DOWN: u32 = 0xff54;
/// See [`RETURN`].
const SHIFT: u32 = 0xffe1;

/// Between two keys. Firmware looks at its keyboard now and then, and keeps a few of them.
const KEY: Duration = Duration::from_millis(80);

/// A connection, of whatever kind.
trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// A viewer, and what it has been shown.
pub struct Viewer {
    stream: Box<dyn Stream>,
    inflate: Decompress,
    /// Pixels across.
    pub width: usize,
    /// Lines.
    pub height: usize,
    /// `0x00RRGGBB`, line after line.
    pub pixels: Vec<u32>,
    /// What the server calls the picture.
    pub name: String,
    /// How the cursor looks, once that was told.
    pub cursor: Option<Cursor>,
}

/// How a cursor looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Pixels across.
    pub width: usize,
    /// The pixel that points.
    pub hot: (usize, usize),
    /// `0xAARRGGBB`, line after line; what is clear is 0.
    pub pixels: Vec<u32>,
}

/// One rectangle of an update, its pixels taken over already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// How it was sent.
    pub encoding: i32,
    /// Where, and how large.
    pub rect: [u16; 4],
}

/// The answer to a challenge, of who knows the password.
pub type Answer<'a> = &'a dyn Fn([u8; 16]) -> [u8; 16];

impl Viewer {
    /// Connects to a UNIX socket, where nothing is asked.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        Self::greet(Box::new(stream), None)
    }

    /// Connects by TCP, where the password is asked for.
    pub fn connect_tcp(address: SocketAddr, answer: Answer<'_>) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        Self::greet(Box::new(stream), Some(answer))
    }

    fn greet(mut stream: Box<dyn Stream>, answer: Option<Answer<'_>>) -> io::Result<Self> {
        let version = take::<12>(&mut stream)?;
        expect(&version == b"RFB 003.008\n", "another version")?;
        stream.write_all(&version)?;
        let [count] = take(&mut stream)?;
        let mut kinds = vec![0; usize::from(count)];
        stream.read_exact(&mut kinds)?;
        let kind = if answer.is_some() { 2 } else { 1 };
        expect(kinds.contains(&kind), "another kind of security")?;
        stream.write_all(&[kind])?;
        if let Some(answer) = answer {
            let challenge = take(&mut stream)?;
            stream.write_all(&answer(challenge))?;
        }
        if long(&mut stream)? != 0 {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                text(&mut stream)?,
            ));
        }
        // Others may look on.
        stream.write_all(&[1])?;
        let (width, height) = (short(&mut stream)?, short(&mut stream)?);
        let format = take::<16>(&mut stream)?;
        let offered = [32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0];
        expect(format.starts_with(&offered), "other pixels")?;
        let name = text(&mut stream)?;
        let mut viewer = Self {
            stream,
            inflate: Decompress::new(true),
            width: 0,
            height: 0,
            pixels: Vec::new(),
            name,
            cursor: None,
        };
        viewer.resize(width, height);
        Ok(viewer)
    }

    fn resize(&mut self, width: u16, height: u16) {
        (self.width, self.height) = (width.into(), height.into());
        self.pixels = vec![0; self.width * self.height];
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Says what it can decode, the most wanted first.
    pub fn set_encodings(&mut self, encodings: &[i32]) -> io::Result<()> {
        let mut bytes = vec![2, 0];
        bytes.extend((encodings.len() as u16).to_be_bytes());
        bytes.extend(encodings.iter().flat_map(|number| number.to_be_bytes()));
        self.send(&bytes)
    }

    /// Asks for an update of everything.
    pub fn request(&mut self, is_incremental: bool) -> io::Result<()> {
        let mut bytes = vec![3, u8::from(is_incremental), 0, 0, 0, 0];
        bytes.extend((self.width as u16).to_be_bytes());
        bytes.extend((self.height as u16).to_be_bytes());
        self.send(&bytes)
    }

    /// Wishes for another size, of one screen.
    pub fn set_size(&mut self, width: u16, height: u16) -> io::Result<()> {
        let [w1, w0] = width.to_be_bytes();
        let [h1, h0] = height.to_be_bytes();
        let screen = [0, 0, 0, 0, 0, 0, 0, 0, w1, w0, h1, h0, 0, 0, 0, 0];
        self.send(&[&[251, 0, w1, w0, h1, h0, 1, 0], &screen[..]].concat())
    }

    /// Presses a key or lets go of it, by what stands on it: X11's number of that.
    pub fn key(&mut self, symbol: u32, is_down: bool) -> io::Result<()> {
        let [a, b, c, d] = symbol.to_be_bytes();
        self.send(&[4, u8::from(is_down), 0, 0, a, b, c, d])
    }

    /// The same by the number of the key itself, as XT keyboards have it.
    pub fn coded_key(&mut self, code: u32, is_down: bool) -> io::Result<()> {
        let mut bytes = vec![255, 0, 0, u8::from(is_down), 0, 0, 0, 0];
        bytes.extend(code.to_be_bytes());
        self.send(&bytes)
    }

    /// Presses a key and lets go of it.
    pub fn tap(&mut self, symbol: u32) -> io::Result<()> {
        self.key(symbol, true)?;
        self.key(symbol, false)
    }

    /// Types a text as on an American keyboard, no faster than hands do, and ends the line.
    pub fn type_line(&mut self, text: &str) -> io::Result<()> {
        for c in text.chars() {
            let is_shifted = c.is_ascii_uppercase() || "~!@#$%^&*()_+{}|:\"<>?".contains(c);
            if is_shifted {
                self.key(SHIFT, true)?;
            }
            self.tap(c.into())?;
            if is_shifted {
                self.key(SHIFT, false)?;
            }
            std::thread::sleep(KEY);
        }
        self.tap(RETURN)
    }

    /// Moves the pointer there, with these buttons down: the left one in the lowest bit.
    pub fn point(&mut self, buttons: u8, x: u16, y: u16) -> io::Result<()> {
        let ([x1, x0], [y1, y0]) = (x.to_be_bytes(), y.to_be_bytes());
        self.send(&[5, buttons, x1, x0, y1, y0])
    }

    /// Sees all of the picture as it is now.
    pub fn refresh(&mut self) -> io::Result<()> {
        loop {
            self.request(false)?;
            let size = (self.width, self.height);
            let parts = self.update()?;
            // A new size comes without pixels.
            if (self.width, self.height) == size && parts.iter().any(|part| part.encoding >= 0) {
                return Ok(());
            }
        }
    }

    /// Waits for an update, and takes it over.
    pub fn update(&mut self) -> io::Result<Vec<Part>> {
        let [kind, _] = take(&mut self.stream)?;
        expect(kind == 0, "no update")?;
        let count = short(&mut self.stream)?;
        (0..count).map(|_| self.part()).collect()
    }

    /// Asks and waits until the picture is as `is_so` says, at most so many updates.
    pub fn wait_until(
        &mut self,
        most: usize,
        is_so: impl Fn(&Self) -> bool,
    ) -> io::Result<Vec<Part>> {
        let mut parts = Vec::new();
        for _ in 0..most {
            self.request(true)?;
            parts.extend(self.update()?);
            if is_so(self) {
                return Ok(parts);
            }
        }
        Err(io::Error::other("the picture never came"))
    }

    fn part(&mut self) -> io::Result<Part> {
        let stream = &mut self.stream;
        let rect = [
            short(stream)?,
            short(stream)?,
            short(stream)?,
            short(stream)?,
        ];
        let encoding = i32::from_be_bytes(take(stream)?);
        let part = Part { encoding, rect };
        let [x, y, width, height] = rect.map(usize::from);
        match encoding {
            DESKTOP_SIZE => self.resize(rect[2], rect[3]),
            EXTENDED_DESKTOP_SIZE => {
                let [screens, _, _, _] = take(stream)?;
                for _ in 0..screens {
                    take::<16>(stream)?;
                }
                // A wish that was not granted at once says nothing of the size.
                let is_so = rect[0] != 1 || rect[1] == 0;
                if is_so && (width, height) != (self.width, self.height) {
                    self.resize(rect[2], rect[3]);
                }
            }
            QEMU_KEYS => {}
            RAW => {
                let mut bytes = vec![0; width * height * 4];
                stream.read_exact(&mut bytes)?;
                let pixels = bytes.as_chunks().0.iter();
                let pixels: Vec<_> = pixels.map(|&pixel| u32::from_le_bytes(pixel)).collect();
                self.put([x, y, width, height], &pixels)?;
            }
            CURSOR => self.shape([x, y, width, height])?,
            CURSOR_WITH_ALPHA => self.shape_with_alpha([x, y, width, height])?,
            ZRLE => self.zrle([x, y, width, height])?,
            _ => return Err(io::Error::other(format!("encoding {encoding}"))),
        }
        Ok(part)
    }

    /// RFC 6143, 7.8.1.
    fn shape(&mut self, [x, y, width, height]: [usize; 4]) -> io::Result<()> {
        let mut bytes = vec![0; width * height * 4];
        self.stream.read_exact(&mut bytes)?;
        let mut bits = vec![0; width.div_ceil(8) * height];
        self.stream.read_exact(&mut bits)?;
        let pixels = bytes.as_chunks().0.iter().enumerate();
        let pixels = pixels.map(|(at, &pixel)| {
            let (column, line) = (at % width, at / width);
            let bit = bits[line * width.div_ceil(8) + column / 8] << (column % 8) & 128;
            let colour = u32::from_le_bytes(pixel) & 0x00ff_ffff;
            if bit == 0 { 0 } else { colour | 0xff00_0000 }
        });
        self.cursor = Some(Cursor {
            width,
            hot: (x, y),
            pixels: pixels.collect(),
        });
        Ok(())
    }

    /// Red, green, blue, alpha, in an encoding of its own.
    fn shape_with_alpha(&mut self, [x, y, width, height]: [usize; 4]) -> io::Result<()> {
        expect(long(&mut self.stream)? == 0, "no raw cursor")?;
        let mut bytes = vec![0; width * height * 4];
        self.stream.read_exact(&mut bytes)?;
        let pixels = bytes.as_chunks().0.iter();
        self.cursor = Some(Cursor {
            width,
            hot: (x, y),
            pixels: pixels
                .map(|&[red, green, blue, alpha]| u32::from_be_bytes([alpha, red, green, blue]))
                .collect(),
        });
        Ok(())
    }

    /// Takes pixels over.
    fn put(&mut self, [x, y, width, height]: [usize; 4], pixels: &[u32]) -> io::Result<()> {
        let is_inside = x + width <= self.width && y + height <= self.height;
        expect(is_inside, "outside of the picture")?;
        for (line, new) in pixels.chunks(width.max(1)).enumerate() {
            let start = (y + line) * self.width + x;
            self.pixels[start..start + width].copy_from_slice(new);
        }
        Ok(())
    }

    /// RFC 6143, 7.7.6.
    fn zrle(&mut self, [x, y, width, height]: [usize; 4]) -> io::Result<()> {
        let length = long(&mut self.stream)?;
        let mut compressed = vec![0; length as usize];
        self.stream.read_exact(&mut compressed)?;
        let bytes = self.decompress(&compressed)?;
        let mut rest = bytes.as_slice();
        for top in (0..height).step_by(64) {
            for left in (0..width).step_by(64) {
                let size = ((width - left).min(64), (height - top).min(64));
                let tile = tile(&mut rest, size)?;
                self.put([x + left, y + top, size.0, size.1], &tile)?;
            }
        }
        expect(rest.is_empty(), "bytes after the last tile")
    }

    fn decompress(&mut self, mut compressed: &[u8]) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        loop {
            bytes.reserve(64 << 10);
            let before = self.inflate.total_in();
            self.inflate
                .decompress_vec(compressed, &mut bytes, FlushDecompress::Sync)
                .map_err(io::Error::other)?;
            compressed = &compressed[(self.inflate.total_in() - before) as usize..];
            if compressed.is_empty() && bytes.len() < bytes.capacity() {
                return Ok(bytes);
            }
        }
    }
}

/// One tile of ZRLE.
fn tile(rest: &mut &[u8], (width, height): (usize, usize)) -> io::Result<Vec<u32>> {
    let count = width * height;
    let [kind] = take(rest)?;
    let mut pixels = Vec::with_capacity(count);
    match kind {
        0 => {
            for _ in 0..count {
                pixels.push(compact(rest)?);
            }
        }
        1 => pixels = vec![compact(rest)?; count],
        2..=16 => {
            let palette = palette(rest, kind)?;
            let bits = match kind {
                2 => 1,
                3..=4 => 2,
                _ => 4,
            };
            for _ in 0..height {
                let mut line = vec![0; (width * bits).div_ceil(8)];
                rest.read_exact(&mut line)?;
                for at in (0..width).map(|at| at * bits) {
                    let place = line[at / 8] << (at % 8) >> (8 - bits);
                    pixels.push(*known(&palette, place)?);
                }
            }
        }
        128 => {
            while pixels.len() < count {
                let pixel = compact(rest)?;
                let run = run(rest)?;
                pixels.extend(std::iter::repeat_n(pixel, run));
            }
        }
        130..=255 => {
            let palette = palette(rest, kind - 128)?;
            while pixels.len() < count {
                let [place] = take(rest)?;
                let run = if place & 128 == 0 { 1 } else { run(rest)? };
                let pixel = *known(&palette, place & 127)?;
                pixels.extend(std::iter::repeat_n(pixel, run));
            }
        }
        _ => return Err(io::Error::other(format!("a tile of kind {kind}"))),
    }
    expect(pixels.len() == count, "runs past the tile's end")?;
    Ok(pixels)
}

fn palette(rest: &mut &[u8], count: u8) -> io::Result<Vec<u32>> {
    (0..count).map(|_| compact(rest)).collect()
}

fn known(palette: &[u32], place: u8) -> io::Result<&u32> {
    let colour = palette.get(usize::from(place));
    colour.ok_or_else(|| io::Error::other("outside of the palette"))
}

fn run(rest: &mut &[u8]) -> io::Result<usize> {
    let mut length = 1;
    loop {
        let [byte] = take(rest)?;
        length += usize::from(byte);
        if byte != 255 {
            return Ok(length);
        }
    }
}

/// A pixel of three bytes.
fn compact(rest: &mut &[u8]) -> io::Result<u32> {
    let [blue, green, red] = take(rest)?;
    Ok(u32::from_be_bytes([0, red, green, blue]))
}

fn take<const N: usize>(stream: &mut (impl Read + ?Sized)) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn short(stream: &mut (impl Read + ?Sized)) -> io::Result<u16> {
    take(stream).map(u16::from_be_bytes)
}

fn long(stream: &mut (impl Read + ?Sized)) -> io::Result<u32> {
    take(stream).map(u32::from_be_bytes)
}

fn text(stream: &mut (impl Read + ?Sized)) -> io::Result<String> {
    let mut bytes = vec![0; long(stream)?.min(4096) as usize];
    stream.read_exact(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn expect(is_so: bool, otherwise: &str) -> io::Result<()> {
    if is_so {
        Ok(())
    } else {
        Err(io::Error::other(otherwise.to_owned()))
    }
}
