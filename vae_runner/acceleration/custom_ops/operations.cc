// What a training step does to float32 maps besides its large convolutions, in as few passes over memory as there can
// be: TensorFlow's own operations, one by one, go over the same maps three times as often.
//
// Maps are [batch, height, width, channels], contiguous; channels are a multiple of kLanes. Sums are taken block by
// block in float32 and over the blocks in double precision, in an order that does not depend on the number of threads:
// the results are the same bits in every run.

#include "conv2d_transpose.h"
#include "image_head.h"
#include "images.h"
#include "normalization.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace vae_runner {
namespace {

using tensorflow::shape_inference::InferenceContext;

// The shapes of inputs, one an output.
template <int... kInputs>
absl::Status ShapesOf(InferenceContext* context) {
  int output = 0;
  (context->set_output(output++, context->input(kInputs)), ...);
  return absl::OkStatus();
}

REGISTER_OP("VaeRunnerNormalizedLeakyRelu")
    .Attr("epsilon: float")
    .Attr("slope: float")
    .Input("x: float")
    .Input("gamma: float")
    .Input("beta: float")
    .Output("y: float")
    .Output("mean: float")
    .Output("variance: float")
    .SetShapeFn(ShapesOf<0, 1, 1>);

REGISTER_OP("VaeRunnerNormalizedLeakyReluGrad")
    .Attr("epsilon: float")
    .Attr("slope: float")
    .Input("dy: float")
    .Input("x: float")
    .Input("gamma: float")
    .Input("beta: float")
    .Input("mean: float")
    .Input("variance: float")
    .Output("dx: float")
    .Output("dgamma: float")
    .Output("dbeta: float")
    .SetShapeFn(ShapesOf<1, 2, 2>);

REGISTER_OP("VaeRunnerPatchSums")
    .Attr("stride: int")
    .Input("images: float")
    .Input("pivot: float")
    .Output("sums: float")
    .SetShapeFn([](InferenceContext* context) {
      context->set_output(0, context->Matrix(kSide * kSide + 1, kSide * kSide + 1));
      return absl::OkStatus();
    });

REGISTER_OP("VaeRunnerConvolvedGrey")
    .Attr("stride: int")
    .Attr("slope: float")
    .Input("images: float")
    .Input("kernel: float")
    .Input("bias: float")
    .Output("maps: float")
    .SetShapeFn([](InferenceContext* context) {
      int stride;
      TF_RETURN_IF_ERROR(context->GetAttr("stride", &stride));
      const auto side = [&](int dimension) {
        const auto size = context->Dim(context->input(0), dimension);
        if (!context->ValueKnown(size)) return context->UnknownDim();
        return context->MakeDim((context->Value(size) + stride - 1) / stride);
      };
      context->set_output(0, context->MakeShape({context->Dim(context->input(0), 0), side(1), side(2),
                                                 context->Dim(context->input(2), 0)}));
      return absl::OkStatus();
    });

REGISTER_OP("VaeRunnerConvolvedGreyGrad")
    .Attr("stride: int")
    .Attr("slope: float")
    .Input("dmaps: float")
    .Input("images: float")
    .Input("kernel: float")
    .Input("bias: float")
    .Output("dkernel: float")
    .Output("dbias: float")
    .SetShapeFn(ShapesOf<2, 3>);

REGISTER_OP("VaeRunnerImageHead")
    .Attr("epsilon: float")
    .Attr("slope: float")
    .Input("x: float")
    .Input("gamma: float")
    .Input("beta: float")
    .Input("kernel: float")
    .Input("bias: float")
    .Output("images: float")
    .Output("mean: float")
    .Output("variance: float")
    .SetShapeFn([](InferenceContext* context) {
      TF_RETURN_IF_ERROR((ShapesOf<0, 1, 1>(context)));
      tensorflow::shape_inference::ShapeHandle images;
      TF_RETURN_IF_ERROR(context->ReplaceDim(context->input(0), 3, context->Dim(context->input(3), 2), &images));
      context->set_output(0, images);
      return absl::OkStatus();
    });

REGISTER_OP("VaeRunnerImageHeadGrad")
    .Attr("epsilon: float")
    .Attr("slope: float")
    .Input("dimages: float")
    .Input("x: float")
    .Input("gamma: float")
    .Input("beta: float")
    .Input("kernel: float")
    .Input("mean: float")
    .Input("variance: float")
    .Output("dx: float")
    .Output("dgamma: float")
    .Output("dbeta: float")
    .Output("dkernel: float")
    .Output("dbias: float")
    .SetShapeFn([](InferenceContext* context) {
      TF_RETURN_IF_ERROR((ShapesOf<1, 2, 2, 4>(context)));
      context->set_output(4, context->Vector(context->Dim(context->input(0), 3)));
      return absl::OkStatus();
    });

REGISTER_OP("VaeRunnerConv2DTranspose")
    .Attr("stride: int")
    .Attr("height: int")
    .Attr("width: int")
    .Input("maps: float")
    .Input("kernel: float")
    .Output("outputs: float")
    .SetShapeFn([](InferenceContext* context) {
      int height, width;
      TF_RETURN_IF_ERROR(context->GetAttr("height", &height));
      TF_RETURN_IF_ERROR(context->GetAttr("width", &width));
      context->set_output(0, context->MakeShape({context->Dim(context->input(0), 0), context->MakeDim(height),
                                                 context->MakeDim(width), context->Dim(context->input(1), 2)}));
      return absl::OkStatus();
    });

#define REGISTER(op) \
  REGISTER_KERNEL_BUILDER(Name("VaeRunner" #op).Device(tensorflow::DEVICE_CPU), op##Op)
REGISTER(NormalizedLeakyRelu);
REGISTER(NormalizedLeakyReluGrad);
REGISTER(PatchSums);
REGISTER(ConvolvedGrey);
REGISTER(ConvolvedGreyGrad);
REGISTER(ImageHead);
REGISTER(ImageHeadGrad);
REGISTER(Conv2DTranspose);
#undef REGISTER

}  // namespace
}  // namespace vae_runner
