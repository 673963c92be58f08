//! What a session computes of parameters ahead of calls is computed again when they change, however they change.

use nnc::{Session, Slice, compile};

/// A convolution by transforms, one directly and a product, with parameters, running statistics and a training step.
const MODEL: &str = "
model M {
    input x: f32[batch, 10, 9, 32]
    target t: f32[batch, 3]
    h = x |> conv2d(40, 3, pad=\"same\") |> batch_norm |> relu |> conv2d(16, 5)
    y = h |> relu |> flatten |> dense(3)
    output y
    loss error = mse(y, t)
}
train { batch 4; epochs 1; minimize error with sgd(lr=0.01) }
";

const ROWS: usize = 4;

struct Data {
    x: Vec<f32>,
    t: Vec<f32>,
}

impl Data {
    fn new() -> Data {
        let numbers = |count: usize, by: f32| (0..count).map(|i| (i as f32 * by).sin()).collect();
        Data { x: numbers(ROWS * 10 * 9 * 32, 0.37), t: numbers(ROWS * 3, 1.3) }
    }

    fn fields(&self) -> [(&str, Slice<'_>); 2] {
        [("x", self.x.as_slice().into()), ("t", self.t.as_slice().into())]
    }
}

fn session() -> Session {
    compile("m.nn", MODEL).unwrap().jit().unwrap()
}

/// The outputs and the loss, as bits.
fn results(session: &mut Session, data: &Data) -> (Vec<u8>, u64) {
    let fields = data.fields();
    let outputs = session.infer(&fields[..1]).unwrap();
    let loss = session.evaluate(&fields).unwrap().get("error").unwrap();
    (outputs[0].bytes().to_vec(), loss.to_bits())
}

/// The results of a session that has never seen other parameters.
fn fresh(session: &Session, data: &Data) -> (Vec<u8>, u64) {
    let mut other = self::session();
    other.parameter_bytes_mut().copy_from_slice(session.parameter_bytes());
    results(&mut other, data)
}

#[test]
fn calls_see_every_change_of_parameters() {
    let (mut session, data) = (session(), Data::new());
    let mut seen = vec![results(&mut session, &data)];
    session.train_step(&data.fields()).unwrap();
    seen.push(results(&mut session, &data));
    let layout = session.parameters().slots().first().expect("there are parameters").clone();
    let twice: Vec<f32> = vec![0.25; layout.bytes() / 4];
    session.set_parameter(&layout.path, twice.as_slice()).unwrap();
    seen.push(results(&mut session, &data));
    session.parameter_bytes_mut().iter_mut().step_by(4).for_each(|byte| *byte ^= 1);
    seen.push(results(&mut session, &data));
    assert_eq!(seen[3], fresh(&session, &data));
    session.initialize(7).unwrap();
    seen.push(results(&mut session, &data));
    assert_eq!(seen[4], fresh(&session, &data));
    for (number, result) in seen.iter().enumerate() {
        assert!(seen[..number].iter().all(|other| other != result), "results {number} are those of before");
    }
}

/// A small perceptron's call takes a microsecond, so its outputs may be lent; those that were given away stay.
#[test]
fn outputs_are_given_away_or_lent() {
    let mut session = compile("m.nn", "model M { input x: f32[batch, 3]\n output y = 2 * x }").unwrap().jit().unwrap();
    let (first, second) = ([1.0f32, 2.0, 3.0], [4.0f32, 5.0, 6.0]);
    let given = session.infer(&[("x", (&first).into())]).unwrap();
    let lent = session.infer_in_place(&[("x", (&second).into())]).unwrap();
    assert_eq!((lent[0].name.as_str(), lent[0].shape.as_slice()), ("y", &[1, 3][..]));
    let address = lent[0].bytes().as_ptr();
    assert_eq!(lent[0].as_f32().unwrap(), [8.0, 10.0, 12.0]);
    let again = session.infer_in_place(&[("x", (&first).into())]).unwrap();
    assert_eq!((again[0].bytes().as_ptr(), again[0].as_f32().unwrap()), (address, &[2.0, 4.0, 6.0][..]));
    assert_eq!(given[0].as_f32().unwrap(), [2.0, 4.0, 6.0]);
    assert!(session.infer_in_place(&[("y", (&first).into())]).is_err());
}
