"""Images for pre-training: by default a folder, dataset.train.root=..."""

from detectron2.config import LazyCall as L

from pretrain.data import TrainView, image_folder

# other sources: image_shards(shards) of tar files, hf_images(place) of Hugging Face's datasets,
# coco_images(json, images), text_list(file, root), scenes(split, num_images, size, seed)
dataset = dict(train=L(image_folder)(root=""))

dataloader = dict(
    decoder="auto",  # of pictures: auto or pillow
    train=dict(
        # seed and size follow the run
        view=L(TrainView)(size=224, scale=(0.2, 1.0), flip=True, decoder="${dataloader.decoder}"),
        total_batch_size=4096,  # over all processes and micro-batches
        reference_batch=None,
        reference_rule="linear",
        num_workers=8,
    ),
)
