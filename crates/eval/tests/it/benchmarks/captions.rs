//! Captioning.

use mm1_eval::metric::Metric;
use mm1_eval::task::Task;

use super::{all, data, opened, refused, shades};

const COCO: &str = r#"{"images": [
    {"filepath": "val2014", "sentids": [770337, 771687], "filename": "COCO_val2014_000000391895.jpg",
    "imgid": 0,
     "split": "test", "cocoid": 391895, "sentences": [
        {"tokens": ["a", "man"], "raw": "A man with a red helmet on a small moped on a dirt road. ",
        "imgid": 0, "sentid": 770337},
        {"tokens": ["man"], "raw": "Man riding a motor bike on a dirt road.", "imgid": 0, "sentid": 771687}]},
    {"filepath": "val2014", "filename": "COCO_val2014_000000060623.jpg", "split": "test", "cocoid": 60623,
    "sentences": [
        {"raw": "A young girl inhales with the intent of blowing out a candle."}]},
    {"filepath": "val2014", "filename": "COCO_val2014_000000522418.jpg", "split": "restval",
    "cocoid": 522418, "sentences": [
        {"raw": "A woman wearing a net on her head cutting a cake."}]},
    {"filepath": "val2014", "filename": "COCO_val2014_000000184613.jpg", "split": "val", "cocoid": 184613,
    "sentences": [
        {"raw": "A child holding a flowered umbrella."}]},
    {"filepath": "train2014", "filename": "COCO_train2014_000000057870.jpg", "split": "train",
    "cocoid": 57870, "sentences": [
        {"raw": "A restaurant has modern wooden tables and chairs."}]}],
    "dataset": "coco"}"#;

#[test]
fn coco_is_split_as_karpathy_did() {
    let pictures = [
        ("coco/val2014/COCO_val2014_000000391895.jpg", 1),
        ("coco/val2014/COCO_val2014_000000060623.jpg", 2),
        ("coco/val2014/COCO_val2014_000000522418.jpg", 3),
        ("coco/train2014/COCO_train2014_000000057870.jpg", 4),
    ];
    let root = data(&[("coco/dataset_coco.json", COCO)], &pictures);
    let (set, outcome) = opened("coco", root.path());
    assert_eq!((set.metric(), set.tests(), set.demonstrations()), (Metric::Cider, 2, 2));
    let test = set.test(0).unwrap();
    assert_eq!((test.id.as_str(), shades(&test)), ("coco/test/COCO_val2014_000000391895.jpg", vec![1]));
    assert_eq!(test.answers.len(), 2);
    assert_eq!(test.answers[0], "A man with a red helmet on a small moped on a dirt road.");
    assert_eq!(shades(&set.demonstration(1).unwrap()), [4]);
    assert!(outcome.items[0].prompt.ends_with("\n<image>A photo of"), "{}", outcome.items[0].prompt);

    std::fs::remove_file(root.path().join("coco/val2014/COCO_val2014_000000391895.jpg")).unwrap();
    let error = format!("{:#}", set.test(0).unwrap_err());
    assert!(error.contains("coco/val2014/COCO_val2014_000000391895.jpg: "), "{error}");
    std::fs::write(root.path().join("coco/dataset_coco.json"), "{\"images\": [{\"split\": \"tset\"}]}")
        .unwrap();
    let error = refused("coco", root.path());
    assert!(
        error.contains("dataset_coco.json: unknown variant `tset`") && error.contains("line 1"),
        "{error}"
    );
}

#[test]
fn flickr30k_has_one_folder_of_pictures() {
    let text = r#"{"images": [
        {"sentids": [0], "imgid": 0, "sentences": [{"tokens": ["two"],
        "raw": "Two young guys with shaggy hair look at their hands.",
            "imgid": 0, "sentid": 0}], "split": "train", "filename": "1000092795.jpg"},
        {"sentences": [{"raw": "The man with pierced ears is wearing glasses and an orange hat."}],
        "split": "test", "filename": "1007129816.jpg"},
        {"sentences": [{"raw": "A black and white dog is running in a grassy garden."}], "split": "test",
        "filename": "1009434119.jpg"}],
        "dataset": "flickr30k"}"#;
    let pictures = [
        ("flickr30k/flickr30k-images/1000092795.jpg", 1),
        ("flickr30k/flickr30k-images/1007129816.jpg", 2),
        ("flickr30k/flickr30k-images/1009434119.jpg", 3),
    ];
    let root = data(&[("flickr30k/dataset_flickr30k.json", text)], &pictures);
    let (set, _) = opened("flickr30k", root.path());
    assert_eq!((set.tests(), set.demonstrations()), (2, 1));
    assert_eq!(shades(&set.test(1).unwrap()), [3]);
}

#[test]
fn nocaps_is_scored_by_domain_and_demonstrates_its_own() {
    let text = r#"{"licenses": [], "info": {}, "images": [
        {"id": 0, "open_images_id": "0013ea2087020901", "height": 1024, "width": 732, "license": 0,
        "domain": "in-domain",
         "file_name": "0013ea2087020901.jpg",
         "coco_url": "https://s3.amazonaws.com/nocaps/val/0013ea2087020901.jpg"},
        {"id": 1, "file_name": "00142dfd6e7b5a39.jpg", "domain": "out-domain"}],
        "annotations": [
        {"image_id": 0, "id": 0, "caption": "A baby is standing in front of a house."},
        {"image_id": 1, "id": 10, "caption": "A black seahorse swims over the sand."},
        {"image_id": 0, "id": 1, "caption": "A little girl in a white jacket and sandals."}]}"#;
    let pictures = [("nocaps/images/0013ea2087020901.jpg", 1), ("nocaps/images/00142dfd6e7b5a39.jpg", 2)];
    let root = data(&[("nocaps/nocaps_val_4500_captions.json", text)], &pictures);
    let (set, outcome) = opened("nocaps", root.path());
    assert_eq!(
        all(&set)[0].answers,
        ["A baby is standing in front of a house.", "A little girl in a white jacket and sandals."]
    );
    assert_eq!(outcome.by_category.keys().collect::<Vec<_>>(), ["in-domain", "out-domain"]);
    assert!(
        outcome.items[0].prompt.starts_with("<image>A photo of A black seahorse"),
        "never the item itself"
    );
}

#[test]
fn captions_of_textcaps_are_gathered_by_picture() {
    let entry = |image: &str, id: u32, caption: &str| {
        format!(
            r#"{{"image_id": "{image}", "image_classes": ["Bottle"], "image_path": "train/{image}.jpg",
                "set_name": "val",
                "caption_id": {id}, "caption_str": "{caption}", "reference_strs": ["{caption}"]}}"#
        )
    };
    let file = |entries: &[String]| {
        format!(r#"{{"dataset_type": "val", "dataset_name": "textcaps", "data": [{}]}}"#, entries.join(","))
    };
    let val = file(&[
        entry("0054c91397f2fe05", 1, "A bottle of Infatuation beer."),
        entry("005635e119b9f32f", 2, "A man with the number 19."),
        entry("0054c91397f2fe05", 3, "A beer stands on a table."),
    ]);
    let train = file(&[entry("4a6a1d8f0c3f1f7a", 4, "A sign that says stop.")]);
    let pictures = [
        ("textcaps/train_images/0054c91397f2fe05.jpg", 1),
        ("textcaps/train_images/005635e119b9f32f.jpg", 2),
        ("textcaps/train_images/4a6a1d8f0c3f1f7a.jpg", 3),
    ];
    let texts = [("textcaps/TextCaps_0.1_val.json", val), ("textcaps/TextCaps_0.1_train.json", train)];
    let root = data(&texts, &pictures);
    let (set, _) = opened("textcaps", root.path());
    let answers: Vec<_> = all(&set).iter().map(|question| question.answers.len()).collect();
    assert_eq!((answers, set.demonstrations()), (vec![2, 1], 1));
}
