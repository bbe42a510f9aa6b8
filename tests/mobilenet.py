"""A small MobileNet of torchvision: what the tests of networks with weights share."""

NAME = "torchvision/mobilenet_v2"
SMALL = {"width_mult": 0.2, "inverted_residual_setting": [[1, 8, 1, 1]], "dropout": 0.0}
OPTIONS = 'width_mult=0.2 "inverted_residual_setting=[[1,8,1,1]]"'
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
