//! probe
use std::sync::Arc;
use burn::tensor::*;
use mm1_data::{world::*, tokenizer::Tokenizer, pack::Packing, image::ImageSpec, mixture::*, loader::*};
use mm1_train::MicroBatch;
fn main() {
    let world = World::new(&WorldConfig::default(), 1).unwrap();
    let tok = Arc::new(Tokenizer::load(std::path::Path::new("runs/e4/tokenizer.json")).unwrap());
    let packing = Packing { tokenizer: tok.clone(), image: ImageSpec::new(64), image_tokens: 16, length: 384 };
    let mixture = Mixture::new(vec![Part { name: "c".into(), source: world.source(Stream::Captioned), weight: 1.0 }]).unwrap();
    let mut l = Loader::start(LoaderConfig { mixture, packing, rows: 2, seed: 5, threads: 1, max_skipped_share: 0.1 }, Cursor::default()).unwrap();
    let (batch, _) = l.next().unwrap();
    println!("images {} slots {:?}", batch.images(), &batch.image_slots[..5]);
    for (i, s) in batch.spans.iter().take(6).enumerate() {
        let a = s.row * batch.length + s.start;
        println!("{:?} {:?} ids {:?}", s, tok.decode(&batch.ids[a..a + s.len]), &batch.ids[a..a + s.len]);
        println!("   targets {:?} w {:?}", &batch.targets[a..a + s.len], &batch.weights[a..a + s.len]);
        let px = &batch.pixels[i * 64 * 64 * 3..(i + 1) * 64 * 64 * 3];
        let mut f = format!("P3 64 64 255\n");
        for v in px { f += &format!("{} ", ((v * 0.5 + 0.5) * 255.0) as u8); }
        std::fs::write(format!("/tmp/px{i}.ppm"), f).unwrap();
    }
    let cfg: mm1_model::Mm1Config = serde_json::from_str(r#"{"vision":{"image_size":64,"patch":16,"stem":"conv","dim":128,"layers":3,"heads":4,"ffn":512},"connector":{"kind":"c-abstractor","tokens":16,"dim":128,"depth":1},"lm":{"vocab":1024,"dim":128,"layers":3,"heads":4,"kv_heads":2,"ffn":352}}"#).unwrap();
    let m = mm1_model::Mm1::new(&cfg, 1, &Device::flex().autodiff()).unwrap();
    let m = mm1_model::weights::load(m, std::path::Path::new(&std::env::args().nth(1).unwrap())).unwrap();
    let w = batch.weight();
    let l0: f32 = batch.loss(&m).unwrap().into_scalar();
    let mut b2 = batch.clone();
    let n = 64 * 64 * 3; b2.pixels.rotate_left(n);
    let l1: f32 = b2.loss(&m).unwrap().into_scalar();
    println!("loss {} rotated {}", l0 as f64 / w, l1 as f64 / w);
    let px = Tensor::<4>::from_data(TensorData::new(batch.pixels.clone(), [batch.images(), 64, 64, 3]), &m.device());
    let st = |name: &str, t: Tensor<3>| { let [n, k, d] = t.dims(); let v = t.into_data().iter::<f32>().collect::<Vec<_>>();
        let mean: Vec<f32> = (0..k * d).map(|j| (0..n).map(|i| v[i * k * d + j]).sum::<f32>() / n as f32).collect();
        let var = (0..n * k * d).map(|i| (v[i] - mean[i % (k * d)]).powi(2)).sum::<f32>() / (n * k * d) as f32;
        let ms = v.iter().map(|x| x * x).sum::<f32>() / v.len() as f32;
        println!("{name}: rms {} std over pictures {}", ms.sqrt(), var.sqrt()); };
    st("vision", m.vision.forward(px.clone()));
    st("tokens", m.image_tokens(px));
}
