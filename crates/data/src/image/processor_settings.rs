//! The settings by which programs of others prepare pictures as this one: `preprocessor_config.json`.

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::spec::{Fit, ImageSpec, ResizeFilter};
use super::tiling::Tiling;

impl ImageSpec {
    /// For the processor of Idefics3. Without tiles it stretches both sides of a picture to the square, once;
    /// of other tilings than its own it knows nothing.
    pub fn idefics3_settings(&self) -> Value {
        let Self { size, config } = self;
        let tiles = match config.tiling {
            Tiling::Idefics3 { longest, .. } => longest as usize,
            _ => 1,
        };
        json!({
            "image_processor_type": "Idefics3ImageProcessor",
            "processor_class": "Idefics3Processor",
            "do_convert_rgb": true,
            // It is the first of two steps, and keeps the ratio of the sides: pixels that are not cut would
            // be resampled twice.
            "do_resize": tiles > 1,
            "size": {"longest_edge": tiles * size},
            "do_image_splitting": tiles > 1,
            "max_image_size": {"longest_edge": size},
            "resample": pillow_number(config.filter),
            "do_rescale": true,
            "rescale_factor": 1.0 / 255.0,
            "do_normalize": true,
            "image_mean": config.mean,
            "image_std": config.std,
            "do_pad": true,
        })
    }

    /// For the processor of LLaVA, whose pictures CLIP's prepares.
    ///
    /// # Errors
    /// One line with the mode that it has not.
    pub fn llava_settings(&self) -> Result<Value> {
        let Self { size, config } = self;
        let square = json!({"height": size, "width": size});
        let (resized, cropped, to) = match config.mode {
            Fit::Squash | Fit::Sides => (true, false, square.clone()),
            Fit::ShortestEdge(edge) => (true, true, json!({"shortest_edge": edge})),
            Fit::Middle => (false, true, square.clone()),
            Fit::CentreCrop | Fit::Pad => {
                bail!("image.mode: the processor of LLaVA neither cuts squares of any size nor fills them")
            }
        };
        Ok(json!({
            "image_processor_type": "CLIPImageProcessor",
            "processor_class": "LlavaProcessor",
            "do_convert_rgb": true,
            "do_resize": resized,
            "size": to,
            "do_center_crop": cropped,
            "crop_size": square,
            "resample": pillow_number(config.filter),
            "do_rescale": true,
            "rescale_factor": 1.0 / 255.0,
            "do_normalize": true,
            "image_mean": config.mean,
            "image_std": config.std,
        }))
    }

    /// For the processor in our own modelling file.
    pub fn own_settings(&self) -> Value {
        json!({
            "image_processor_type": "Mm1ImageProcessor",
            "processor_class": "Mm1Processor",
            "auto_map": {
                "AutoImageProcessor": "modeling_mm1.Mm1ImageProcessor",
                "AutoProcessor": "modeling_mm1.Mm1Processor",
            },
            "size": self.size,
            "image": self.config,
        })
    }
}

/// As Pillow numbers its filters.
fn pillow_number(filter: ResizeFilter) -> u8 {
    match filter {
        ResizeFilter::Nearest => 0,
        ResizeFilter::Lanczos => 1,
        ResizeFilter::Bilinear => 2,
        ResizeFilter::Bicubic => 3,
    }
}
