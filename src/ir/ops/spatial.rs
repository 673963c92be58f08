//! The arithmetic of kernels and windows that move along axes: how far they reach, how many places they have, and padding.
//!
//! Shared by `windows`, `overlap_add`, `convolve` and `convolve_kernel`, so that all four agree on every size.

use super::primitive::Argument;
use super::{Attribute, Attributes, PrimitiveArguments, TypeError};
use crate::ir::dim::Dim;

/// The largest kernel, stride, dilation or border along one axis; keeps every product of two far inside `i64`.
const LARGEST: i64 = 1 << 30;

/// How many elements of an axis lie under a window of `size` elements that are `dilation` apart.
pub fn extent(size: usize, dilation: usize) -> i64 {
    (size as i64 - 1) * dilation as i64 + 1
}

/// How many places a window of `extent` elements has along an axis of `dim` in steps of `stride`: `(dim - extent) // stride + 1`.
///
/// # Errors
/// The window is larger than the axis, or the number is no dim.
pub fn places(dim: &Dim, extent: i64, stride: usize) -> Result<Dim, TypeError> {
    let rest = dim.sub(&Dim::from(extent)).ok_or_else(|| TypeError::new("a size is too large"))?;
    if rest.constant().is_some_and(|r| r < 0) {
        return Err(TypeError::new(format!("a window over {extent} elements does not fit into {dim}")));
    }
    let steps = rest.div_floor(stride as i64).and_then(|steps| steps.add(&Dim::from(1i64)));
    steps.ok_or_else(|| {
        TypeError::new(format!("the number of windows over {extent} of {dim} elements in steps of {stride} is no dim"))
            .note("make the size known, or a multiple of the stride")
    })
}

/// Whether every number is a size that a window may have.
pub fn in_range(numbers: &[usize]) -> bool {
    numbers.iter().all(|n| (1..=LARGEST as usize).contains(n))
}

/// How a kernel moves over its input, one entry a spatial axis but for `groups`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Geometry {
    pub strides: Vec<usize>,
    /// Zeros before and after the input; negative ones cut it.
    pub low: Vec<i64>,
    pub high: Vec<i64>,
    /// The input's elements are so far apart, with zeros between.
    pub input_dilations: Vec<usize>,
    /// The kernel's elements are so far apart.
    pub dilations: Vec<usize>,
    /// Channels and filters are cut into so many groups that see only each other.
    pub groups: usize,
}

impl Geometry {
    /// A kernel that moves by 1 over `rank` axes without padding.
    pub fn plain(rank: usize) -> Geometry {
        Geometry {
            strides: vec![1; rank],
            low: vec![0; rank],
            high: vec![0; rank],
            input_dilations: vec![1; rank],
            dilations: vec![1; rank],
            groups: 1,
        }
    }

    /// The number of spatial axes.
    pub fn rank(&self) -> usize {
        self.strides.len()
    }

    /// As attributes of an op.
    pub fn attributes(&self) -> Attributes {
        let sizes = |all: &[usize]| Attribute::dims(all.iter().copied());
        Attributes::new([
            ("strides", sizes(&self.strides)),
            ("low", Attribute::dims(self.low.iter().copied())),
            ("high", Attribute::dims(self.high.iter().copied())),
            ("input_dilations", sizes(&self.input_dilations)),
            ("dilations", sizes(&self.dilations)),
            ("groups", Attribute::Dim(Dim::from(self.groups))),
        ])
    }

    /// The inverse of [`Geometry::attributes`].
    ///
    /// # Errors
    /// An attribute is missing, of the wrong kind or out of range.
    pub fn from_attributes(attributes: &Attributes) -> Result<Geometry, String> {
        let geometry = Geometry {
            strides: attributes.numbers("strides")?,
            low: attributes.numbers("low")?,
            high: attributes.numbers("high")?,
            input_dilations: attributes.numbers("input_dilations")?,
            dilations: attributes.numbers("dilations")?,
            groups: attributes.number("groups")?,
        };
        let rank = geometry.rank();
        let lists = [geometry.low.len(), geometry.high.len(), geometry.input_dilations.len(), geometry.dilations.len()];
        let steps = [&geometry.strides, &geometry.input_dilations, &geometry.dilations];
        let borders = geometry.low.iter().chain(&geometry.high).all(|b| (-LARGEST..=LARGEST).contains(b));
        if lists != [rank; 4] || !steps.iter().all(|s| in_range(s)) || !borders || geometry.groups == 0 {
            return Err("the strides, borders and dilations of a convolution do not fit together".into());
        }
        Ok(geometry)
    }

    /// The size of the input along `axis` with its zeros: `low + (dim - 1) · input_dilation + 1 + high`.
    pub fn padded(&self, axis: usize, dim: &Dim) -> Option<Dim> {
        let one = Dim::from(1i64);
        let spread = dim.sub(&one)?.mul(&Dim::from(self.input_dilations[axis]))?.add(&one)?;
        spread.add(&Dim::from(self.low[axis] + self.high[axis]))
    }

    /// The sizes of the result for spatial sizes of the input and of the kernel.
    ///
    /// # Errors
    /// The kernel does not fit, or a size is no dim.
    pub fn output(&self, input: &[Dim], kernel: &[usize]) -> Result<Vec<Dim>, TypeError> {
        let too_large = || TypeError::new("a size is too large");
        if !in_range(kernel) {
            return Err(TypeError::new("a kernel needs at least one element along each axis").at([1]));
        }
        (0..self.rank())
            .map(|axis| {
                let padded = self.padded(axis, &input[axis]).ok_or_else(too_large)?;
                places(&padded, extent(kernel[axis], self.dilations[axis]), self.strides[axis])
                    .map_err(|e| e.at([0, 1]))
            })
            .collect()
    }

    /// The geometry with which the input's gradient is a convolution of the result's gradient and the turned kernel.
    ///
    /// `None` if a border depends on a symbolic size.
    pub fn transposed(&self, input: &[Dim], output: &[Dim], kernel: &[usize]) -> Option<Geometry> {
        let mut turned =
            Geometry { strides: self.input_dilations.clone(), input_dilations: self.strides.clone(), ..self.clone() };
        for axis in 0..self.rank() {
            let reach = extent(kernel[axis], self.dilations[axis]);
            turned.low[axis] = reach - 1 - self.low[axis];
            // What is left such that the turned kernel has exactly as many places as the input has elements.
            let one = Dim::from(1i64);
            let wanted = input[axis].sub(&one)?.mul(&Dim::from(self.input_dilations[axis]))?.add(&Dim::from(reach))?;
            let spread = output[axis].sub(&one)?.mul(&Dim::from(self.strides[axis]))?.add(&one)?;
            turned.high[axis] = wanted.sub(&spread)?.constant()? - turned.low[axis];
        }
        Some(turned)
    }
}

/// The padding of a call: a name, a number for all sides, or numbers for each axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Padding {
    /// None: only whole windows.
    Valid,
    /// As many places as elements, divided by the stride and rounded up; one more at the end where it comes out odd.
    Same,
    /// Every window that meets at least one element.
    Full,
    /// So many before and after each axis.
    Explicit(Vec<(i64, i64)>),
}

impl Padding {
    /// The argument at `position`, `valid` if there is none.
    ///
    /// # Errors
    /// No padding of `rank` axes.
    pub fn read(arguments: &PrimitiveArguments, position: usize, rank: usize) -> Result<Padding, TypeError> {
        let wrong = |found: &str| {
            let axes = if rank == 1 { "one entry".to_string() } else { format!("{rank} entries") };
            TypeError::new(format!("expected `valid`, `same`, `full`, an int or a list of {axes}, found {found}"))
                .note("an entry of the list is an int, or [before, after]")
                .at([position])
        };
        let number = |a: &Argument| match a {
            Argument::Int(d) => {
                d.constant().filter(|n| (-LARGEST..=LARGEST).contains(n)).ok_or_else(|| wrong(&d.to_string()))
            }
            other => Err(wrong(other.kind())),
        };
        match arguments.get(position) {
            None => Ok(Padding::Valid),
            Some(Argument::Text(name)) => match name.as_str() {
                "valid" => Ok(Padding::Valid),
                "same" => Ok(Padding::Same),
                "full" => Ok(Padding::Full),
                other => Err(wrong(&format!("`{other}`"))),
            },
            Some(Argument::List(items)) if items.len() == rank => {
                let pair = |item: &Argument| match item {
                    Argument::List(two) if two.len() == 2 => Ok((number(&two[0])?, number(&two[1])?)),
                    single => number(single).map(|n| (n, n)),
                };
                Ok(Padding::Explicit(items.iter().map(pair).collect::<Result<_, _>>()?))
            }
            Some(Argument::List(items)) => Err(wrong(&format!("a list of {}", items.len()))),
            Some(single) => Ok(Padding::Explicit(vec![number(single).map(|n| (n, n))?; rank])),
        }
    }

    /// What is added before and after an axis of `dim` for windows over `extent` elements in steps of `stride`.
    ///
    /// # Errors
    /// `same` padding that depends on a symbolic size.
    pub fn borders(&self, axis: usize, dim: &Dim, extent: i64, stride: usize) -> Result<(i64, i64), TypeError> {
        match self {
            Padding::Valid => Ok((0, 0)),
            Padding::Full => Ok((extent - 1, extent - 1)),
            Padding::Explicit(pairs) => Ok(pairs[axis]),
            Padding::Same => {
                let stride = stride as i64;
                // With n = q · stride + r elements: ceil(n / stride) windows reach over (q - 1) · stride + extent, or q · stride + extent.
                let over = match dim.constant() {
                    Some(n) => extent - if n % stride == 0 { stride } else { n % stride },
                    None => {
                        dim.div_exact(&Dim::from(stride)).ok_or_else(|| {
                            TypeError::new(format!(
                                "the `same` padding of {dim} elements in steps of {stride} is not known"
                            ))
                            .note("make the size known, or a multiple of the stride")
                        })?;
                        extent - stride
                    }
                };
                let total = over.max(0);
                Ok((total / 2, total - total / 2))
            }
        }
    }
}

/// An int for all of `rank` axes, or one for each; each at least 1. `default` if the call gave none.
///
/// # Errors
/// Something else.
pub fn per_axis(
    arguments: &PrimitiveArguments,
    position: usize,
    rank: usize,
    default: &[usize],
) -> Result<Vec<usize>, TypeError> {
    if arguments.get(position).is_none() {
        return Ok(default.to_vec());
    }
    let single = matches!(arguments.get(position), Some(Argument::Int(_)));
    let given = arguments.dims(position)?;
    if !single && given.len() != rank {
        let text = format!("expected an int or a list of {rank} ints, found a list of {}", given.len());
        return Err(TypeError::new(text).at([position]));
    }
    let number = |d: &Dim| d.constant().filter(|n| (1..=LARGEST).contains(n)).map(|n| n as usize);
    let sizes = given.iter().map(|d| {
        number(d).ok_or_else(|| TypeError::new(format!("expected an int of at least 1, found {d}")).at([position]))
    });
    let sizes: Vec<usize> = sizes.collect::<Result<_, _>>()?;
    Ok(if single { vec![sizes[0]; rank] } else { sizes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_padding_gives_as_many_places_as_strides_fit() {
        for n in 1..20i64 {
            for stride in 1..5usize {
                for extent in 1..7i64 {
                    let (low, high) = Padding::Same.borders(0, &Dim::from(n), extent, stride).unwrap();
                    let padded = Dim::from(n + low + high);
                    let found = places(&padded, extent, stride).unwrap();
                    assert_eq!(found, Dim::from((n as usize).div_ceil(stride)), "{n} {stride} {extent}");
                    assert!(high - low == 0 || high - low == 1);
                }
            }
        }
    }

    #[test]
    fn symbolic_sizes_where_they_are_exact() {
        let h = Dim::symbol("h");
        assert_eq!(places(&h, 3, 1).unwrap().to_string(), "h - 2");
        assert!(places(&h, 3, 2).is_err());
        let even = h.mul(&Dim::from(2i64)).unwrap();
        assert_eq!(places(&even, 2, 2).unwrap().to_string(), "h");
        assert_eq!(places(&even, 3, 2).unwrap().to_string(), "h - 1");
        assert_eq!(Padding::Same.borders(0, &even, 3, 2).unwrap(), (0, 1));
    }
}
