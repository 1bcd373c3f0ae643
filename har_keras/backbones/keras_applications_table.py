"""The networks of keras.applications: files of weights, sizes and costs.

Measured once with Keras 3.15 by building each without its head. Multiply-adds
are those of convolutions and matrix products, for one frame of `image_size`.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """What is known of a network without building it.

    Args:
        file: str. The weights without the head, in the cache of Keras.
        image_size: int. Height and width that it was trained on, in pixels.
        parameters: float. Millions, without the head.
        macs: float. Billions of multiply-adds.
    """

    file: str
    image_size: int
    parameters: float
    macs: float


_KERNELS = "weights_tf_dim_ordering_tf_kernels"

PUBLISHED = {
    "convnext-base": Published(
        "convnext_base_notop.h5", 224, 87.6, 15.1
    ),
    "convnext-large": Published(
        "convnext_large_notop.h5", 224, 196.2, 34.0
    ),
    "convnext-small": Published(
        "convnext_small_notop.h5", 224, 49.5, 8.51
    ),
    "convnext-tiny": Published(
        "convnext_tiny_notop.h5", 224, 27.8, 4.35
    ),
    "convnext-xlarge": Published(
        "convnext_xlarge_notop.h5", 224, 348.1, 60.5
    ),
    "densenet121": Published(
        f"densenet121_{_KERNELS}_notop.h5", 224, 7.04, 2.83
    ),
    "densenet169": Published(
        f"densenet169_{_KERNELS}_notop.h5", 224, 12.6, 3.36
    ),
    "densenet201": Published(
        f"densenet201_{_KERNELS}_notop.h5", 224, 18.3, 4.29
    ),
    "efficientnet-b0": Published(
        "efficientnetb0_notop.h5", 224, 4.05, 0.38
    ),
    "efficientnet-b1": Published(
        "efficientnetb1_notop.h5", 240, 6.58, 0.69
    ),
    "efficientnet-b2": Published(
        "efficientnetb2_notop.h5", 260, 7.77, 0.99
    ),
    "efficientnet-b3": Published(
        "efficientnetb3_notop.h5", 300, 10.8, 1.83
    ),
    "efficientnet-b4": Published(
        "efficientnetb4_notop.h5", 380, 17.7, 4.39
    ),
    "efficientnet-b5": Published(
        "efficientnetb5_notop.h5", 456, 28.5, 10.3
    ),
    "efficientnet-b6": Published(
        "efficientnetb6_notop.h5", 528, 41.0, 19.1
    ),
    "efficientnet-b7": Published(
        "efficientnetb7_notop.h5", 600, 64.1, 37.7
    ),
    "efficientnet-v2-b0": Published(
        "efficientnetv2-b0_notop.h5", 224, 5.92, 0.72
    ),
    "efficientnet-v2-b1": Published(
        "efficientnetv2-b1_notop.h5", 240, 6.93, 1.20
    ),
    "efficientnet-v2-b2": Published(
        "efficientnetv2-b2_notop.h5", 260, 8.77, 1.70
    ),
    "efficientnet-v2-b3": Published(
        "efficientnetv2-b3_notop.h5", 300, 12.9, 3.01
    ),
    "efficientnet-v2-l": Published(
        "efficientnetv2-l_notop.h5", 480, 117.7, 56.1
    ),
    "efficientnet-v2-m": Published(
        "efficientnetv2-m_notop.h5", 480, 53.2, 24.6
    ),
    "efficientnet-v2-s": Published(
        "efficientnetv2-s_notop.h5", 384, 20.3, 8.36
    ),
    "inception-resnet-v2": Published(
        f"inception_resnet_v2_{_KERNELS}_notop.h5", 299, 54.3, 13.2
    ),
    "inception-v3": Published(
        f"inception_v3_{_KERNELS}_notop.h5", 299, 21.8, 5.71
    ),
    "mobilenet": Published(
        "mobilenet_1_0_224_tf_no_top.h5", 224, 3.23, 0.57
    ),
    "mobilenet-v2": Published(
        f"mobilenet_v2_{_KERNELS}_1.0_224_no_top.h5", 224, 2.26, 0.30
    ),
    "mobilenet-v3-large": Published(
        "weights_mobilenet_v3_large_224_1.0_float_no_top_v2.h5", 224, 3.00, 0.21
    ),
    "mobilenet-v3-small": Published(
        "weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5", 224, 0.94, 0.05
    ),
    "nasnet-large": Published(
        "nasnet_large_no_top.h5", 331, 84.9, 23.8
    ),
    "nasnet-mobile": Published(
        "nasnet_mobile_no_top.h5", 224, 4.27, 0.56
    ),
    "resnet101": Published(
        f"resnet101_{_KERNELS}_notop.h5", 224, 42.7, 7.57
    ),
    "resnet101-v2": Published(
        f"resnet101v2_{_KERNELS}_notop.h5", 224, 42.6, 7.19
    ),
    "resnet152": Published(
        f"resnet152_{_KERNELS}_notop.h5", 224, 58.4, 11.3
    ),
    "resnet152-v2": Published(
        f"resnet152v2_{_KERNELS}_notop.h5", 224, 58.3, 10.9
    ),
    "resnet50": Published(
        f"resnet50_{_KERNELS}_notop.h5", 224, 23.6, 3.86
    ),
    "resnet50-v2": Published(
        f"resnet50v2_{_KERNELS}_notop.h5", 224, 23.6, 3.48
    ),
    "vgg16": Published(
        f"vgg16_{_KERNELS}_notop.h5", 224, 14.7, 15.3
    ),
    "vgg19": Published(
        f"vgg19_{_KERNELS}_notop.h5", 224, 20.0, 19.5
    ),
    "xception": Published(
        f"xception_{_KERNELS}_notop.h5", 299, 20.9, 8.36
    ),
}  # fmt: skip
