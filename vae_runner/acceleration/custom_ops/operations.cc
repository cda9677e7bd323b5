// What a training step does to float32 maps: 3×3 convolutions with fewer multiplications than taps, and all else in as
// few passes over memory as there can be, where TensorFlow's own operations, one by one, go over the same maps three
// times as often.
//
// Maps are [batch, height, width, channels], contiguous; channels are a multiple of 16, those of the widest register.
// Sums over pixels are taken part by part in float32 and over the parts in double precision, in an order that does not
// depend on the number of threads: the results are the same bits in every run.

#include "convolutions.h"
#include "image_head.h"
#include "images.h"
#include "normalization.h"
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/shape_inference.h"

namespace vae_runner {
namespace {

using tensorflow::shape_inference::DimensionHandle;
using tensorflow::shape_inference::DimensionOrConstant;
using tensorflow::shape_inference::InferenceContext;
using tensorflow::shape_inference::ShapeHandle;

// What is known of the shapes of an operation before it runs, by the names of its inputs and outputs. The first that
// does not fit is kept as the status.
class Shapes {
 public:
  explicit Shapes(InferenceContext* context) : context_(context) {}

  // A size that any other fits.
  DimensionHandle Any() { return context_->UnknownDim(); }

  // An input's shape, of these sizes.
  ShapeHandle Input(const char* name, std::initializer_list<DimensionOrConstant> sizes) {
    ShapeHandle shape = context_->MakeShape(sizes);
    std::vector<ShapeHandle> given;
    status_.Update(context_->input(name, &given));
    if (status_.ok()) {
      const absl::Status merged = context_->Merge(given[0], shape, &shape);
      if (!merged.ok()) status_ = Invalid(name, ": ", merged.message());
    }
    return shape;
  }

  // One of the sizes of a shape.
  DimensionHandle Size(ShapeHandle shape, int dimension) { return context_->Dim(shape, dimension); }

  // How many strides there are in a size, the last of which may reach beyond it.
  DimensionHandle Strides(DimensionOrConstant size) {
    const int64_t stride = Attribute("stride"), value = context_->Value(size);
    return value < 0 ? Any() : context_->MakeDim((value + stride - 1) / stride);
  }

  int64_t Attribute(const char* name) {
    int64_t value = 1;
    status_.Update(context_->GetAttr(name, &value));
    return value;
  }

  Shapes& Output(const char* name, ShapeHandle shape) {
    status_.Update(context_->set_output(name, {shape}));
    return *this;
  }
  Shapes& Output(const char* name, std::initializer_list<DimensionOrConstant> sizes) {
    return Output(name, context_->MakeShape(sizes));
  }

  const absl::Status& status() const { return status_; }

 private:
  InferenceContext* context_;
  absl::Status status_;
};

REGISTER_OP("VaeRunnerNormalizedLeakyRelu")
    .Attr("epsilon: float")
    .Attr("slope: float")
    .Input("x: float")
    .Input("gamma: float")
    .Input("beta: float")
    .Output("y: float")
    .Output("mean: float")
    .Output("variance: float")
    .SetShapeFn([](InferenceContext* context) {
      Shapes shapes(context);
      const ShapeHandle x = shapes.Input("x", {shapes.Any(), shapes.Any(), shapes.Any(), shapes.Any()});
      const ShapeHandle gamma = shapes.Input("gamma", {shapes.Size(x, 3)});
      shapes.Input("beta", {shapes.Size(x, 3)});
      return shapes.Output("y", x).Output("mean", gamma).Output("variance", gamma).status();
    });

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
    .SetShapeFn([](InferenceContext* context) {
      Shapes shapes(context);
      ShapeHandle x = shapes.Input("x", {shapes.Any(), shapes.Any(), shapes.Any(), shapes.Any()});
      x = shapes.Input("dy", {shapes.Size(x, 0), shapes.Size(x, 1), shapes.Size(x, 2), shapes.Size(x, 3)});
      const ShapeHandle gamma = shapes.Input("gamma", {shapes.Size(x, 3)});
      for (const char* name : {"beta", "mean", "variance"}) shapes.Input(name, {shapes.Size(x, 3)});
      return shapes.Output("dx", x).Output("dgamma", gamma).Output("dbeta", gamma).status();
    });

REGISTER_OP("VaeRunnerPatchSums")
    .Attr("stride: int >= 1")
    .Input("images: float")
    .Input("pivot: float")
    .Output("sums: float")
    .SetShapeFn([](InferenceContext* context) {
      Shapes shapes(context);
      shapes.Input("images", {shapes.Any(), shapes.Any(), shapes.Any(), 1});
      shapes.Input("pivot", {});
      return shapes.Output("sums", {kSide * kSide + 1, kSide * kSide + 1}).status();
    });

REGISTER_OP("VaeRunnerConvolvedGrey")
    .Attr("stride: int >= 1")
    .Attr("slope: float")
    .Input("images: float")
    .Input("kernel: float")
    .Input("bias: float")
    .Output("maps: float")
    .SetShapeFn([](InferenceContext* context) {
      Shapes shapes(context);
      const ShapeHandle images = shapes.Input("images", {shapes.Any(), shapes.Any(), shapes.Any(), 1});
      const ShapeHandle kernel = shapes.Input("kernel", {kSide, kSide, 1, shapes.Any()});
      shapes.Input("bias", {shapes.Size(kernel, 3)});
      return shapes
          .Output("maps", {shapes.Size(images, 0), shapes.Strides(shapes.Size(images, 1)),
                           shapes.Strides(shapes.Size(images, 2)), shapes.Size(kernel, 3)})
          .status();
    });

REGISTER_OP("VaeRunnerConvolvedGreyGrad")
    .Attr("stride: int >= 1")
    .Attr("slope: float")
    .Input("dmaps: float")
    .Input("images: float")
    .Input("kernel: float")
    .Input("bias: float")
    .Output("dkernel: float")
    .Output("dbias: float")
    .SetShapeFn([](InferenceContext* context) {
      Shapes shapes(context);
      const ShapeHandle images = shapes.Input("images", {shapes.Any(), shapes.Any(), shapes.Any(), 1});
      const ShapeHandle kernel = shapes.Input("kernel", {kSide, kSide, 1, shapes.Any()});
      const ShapeHandle bias = shapes.Input("bias", {shapes.Size(kernel, 3)});
      shapes.Input("dmaps", {shapes.Size(images, 0), shapes.Strides(shapes.Size(images, 1)),
                             shapes.Strides(shapes.Size(images, 2)), shapes.Size(kernel, 3)});
      return shapes.Output("dkernel", kernel).Output("dbias", bias).status();
    });

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
      Shapes shapes(context);
      const ShapeHandle x = shapes.Input("x", {shapes.Any(), shapes.Any(), shapes.Any(), shapes.Any()});
      const ShapeHandle gamma = shapes.Input("gamma", {shapes.Size(x, 3)});
      shapes.Input("beta", {shapes.Size(x, 3)});
      const ShapeHandle kernel = shapes.Input("kernel", {kSide, kSide, shapes.Any(), shapes.Size(x, 3)});
      shapes.Input("bias", {shapes.Size(kernel, 2)});
      return shapes
          .Output("images", {shapes.Size(x, 0), shapes.Size(x, 1), shapes.Size(x, 2), shapes.Size(kernel, 2)})
          .Output("mean", gamma)
          .Output("variance", gamma)
          .status();
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
      Shapes shapes(context);
      const ShapeHandle x = shapes.Input("x", {shapes.Any(), shapes.Any(), shapes.Any(), shapes.Any()});
      const ShapeHandle gamma = shapes.Input("gamma", {shapes.Size(x, 3)});
      for (const char* name : {"beta", "mean", "variance"}) shapes.Input(name, {shapes.Size(x, 3)});
      const ShapeHandle kernel = shapes.Input("kernel", {kSide, kSide, shapes.Any(), shapes.Size(x, 3)});
      shapes.Input("dimages", {shapes.Size(x, 0), shapes.Size(x, 1), shapes.Size(x, 2), shapes.Size(kernel, 2)});
      return shapes.Output("dx", x)
          .Output("dgamma", gamma)
          .Output("dbeta", gamma)
          .Output("dkernel", kernel)
          .Output("dbias", {shapes.Size(kernel, 2)})
          .status();
    });

REGISTER_OP("VaeRunnerConv2D")
    .Attr("stride: int >= 1")
    .Input("images: float")
    .Input("kernel: float")
    .Output("maps: float")
    .SetShapeFn([](InferenceContext* context) {
      Shapes shapes(context);
      const ShapeHandle images = shapes.Input("images", {shapes.Any(), shapes.Any(), shapes.Any(), shapes.Any()});
      const ShapeHandle kernel = shapes.Input("kernel", {kSide, kSide, shapes.Size(images, 3), shapes.Any()});
      return shapes
          .Output("maps", {shapes.Size(images, 0), shapes.Strides(shapes.Size(images, 1)),
                           shapes.Strides(shapes.Size(images, 2)), shapes.Size(kernel, 3)})
          .status();
    });

REGISTER_OP("VaeRunnerConv2DTranspose")
    .Attr("stride: int >= 1")
    .Attr("height: int >= 1")
    .Attr("width: int >= 1")
    .Input("maps: float")
    .Input("kernel: float")
    .Output("images: float")
    .SetShapeFn([](InferenceContext* context) {
      Shapes shapes(context);
      const int64_t height = shapes.Attribute("height"), width = shapes.Attribute("width");
      const ShapeHandle maps =
          shapes.Input("maps", {shapes.Any(), shapes.Strides(height), shapes.Strides(width), shapes.Any()});
      const ShapeHandle kernel = shapes.Input("kernel", {kSide, kSide, shapes.Any(), shapes.Size(maps, 3)});
      return shapes.Output("images", {shapes.Size(maps, 0), height, width, shapes.Size(kernel, 2)}).status();
    });

REGISTER_OP("VaeRunnerConv2DKernelGrad")
    .Attr("stride: int >= 1")
    .Input("images: float")
    .Input("dmaps: float")
    .Output("dkernel: float")
    .SetShapeFn([](InferenceContext* context) {
      Shapes shapes(context);
      const ShapeHandle images = shapes.Input("images", {shapes.Any(), shapes.Any(), shapes.Any(), shapes.Any()});
      const ShapeHandle dmaps =
          shapes.Input("dmaps", {shapes.Size(images, 0), shapes.Strides(shapes.Size(images, 1)),
                                 shapes.Strides(shapes.Size(images, 2)), shapes.Any()});
      return shapes.Output("dkernel", {kSide, kSide, shapes.Size(images, 3), shapes.Size(dmaps, 3)}).status();
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
REGISTER(Conv2D);
REGISTER(Conv2DTranspose);
REGISTER(Conv2DKernelGrad);
#undef REGISTER

}  // namespace
}  // namespace vae_runner
