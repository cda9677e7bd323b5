// What all operations are made of: groups of channels in registers, parts on threads, sums over parts.

#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <type_traits>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/util/work_sharder.h"

namespace vae_runner {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

// Channels that are computed together: as many as a register holds. (Of vectors that are wider than a register,
// compilers make code that is many times slower.)
#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif
typedef float Lanes __attribute__((vector_size(4 * kLanes)));
typedef float LanesInMemory __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));

// Rows and columns of all kernels.
constexpr int kSide = 3;

// Pixels whose sums are taken in float32.
constexpr int64_t kBlock = 1024;

inline Lanes Load(const float* from) { return *reinterpret_cast<const LanesInMemory*>(from); }
inline void Store(float* to, Lanes value) { *reinterpret_cast<LanesInMemory*>(to) = value; }
inline Lanes Leaky(Lanes value, Lanes sign, float slope) { return sign > 0 ? value : value * slope; }

inline float Sum(Lanes value) {
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; i++) value[i] += value[i + half];
  }
  return value[0];
}

inline const float* Data(const Tensor& tensor) { return tensor.flat<float>().data(); }
inline float* Data(Tensor* tensor) { return tensor->flat<float>().data(); }

// The error of arguments that do not fit: its message in parts.
template <typename... Parts>
absl::Status Invalid(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

// An input by the name that it is registered with.
inline const Tensor& Input(OpKernelContext* context, const char* name) {
  const Tensor* input = nullptr;
  TF_CHECK_OK(context->input(name, &input));
  return *input;
}

// The size of the last dimension; 0 where there is none.
inline int64_t Channels(const Tensor& tensor) {
  return tensor.dims() == 0 ? 0 : tensor.dim_size(tensor.dims() - 1);
}

// In place of a size that inputs must have: any from 0 or 1 on.
constexpr int64_t kAny = -2, kPositive = -1;

// Fails the context where an input has other dimensions than these.
inline void RequireShape(OpKernelContext* context, const char* name, std::initializer_list<int64_t> sizes) {
  const TensorShape& shape = Input(context, name).shape();
  OP_REQUIRES(context, shape.dims() == int(sizes.size()),
              Invalid(name, " ", shape.DebugString(), " must have ", sizes.size(), " dimensions"));
  int dimension = 0;
  for (const int64_t size : sizes) {
    const int64_t given = shape.dim_size(dimension);
    OP_REQUIRES(context, size == kAny || (size == kPositive ? given > 0 : given == size),
                Invalid(name, " ", shape.DebugString(), " must have ",
                        size == kPositive ? "at least 1" : absl::StrCat(size), " in dimension ", dimension));
    dimension++;
  }
}

// Fails the context where channels are not a multiple of 16, those of the widest register: what fits must not depend on
// the processor.
inline void RequireLanes(OpKernelContext* context, int64_t channels) {
  constexpr int kWidest = 16;
  static_assert(kWidest % kLanes == 0);
  OP_REQUIRES(context, channels > 0 && channels % kWidest == 0,
              Invalid("the number of channels, ", channels, ", must be a multiple of ", kWidest));
}

// An output by its name, or null, and the context failed, where there is no memory.
inline Tensor* Allocate(OpKernelContext* context, const char* name, std::initializer_list<int64_t> sizes) {
  TensorShape shape;
  Tensor* output = nullptr;
  absl::Status status = TensorShape::BuildTensorShape(sizes, &shape);  // which refuses more numbers than can be counted
  if (status.ok()) status = context->allocate_output(name, shape, &output);
  if (!status.ok()) context->CtxFailure(__FILE__, __LINE__, status);
  return output;
}

// Memory for [parts, size] numbers; the context fails where there is none.
inline Tensor Scratch(OpKernelContext* context, int64_t parts, int64_t size) {
  TensorShape shape;
  Tensor scratch;
  absl::Status status = TensorShape::BuildTensorShape({parts, size}, &shape);
  if (status.ok()) status = context->allocate_temp(tensorflow::DT_FLOAT, shape, &scratch);
  if (!status.ok()) context->CtxFailure(__FILE__, __LINE__, status);
  return scratch;
}

// work(first, last) on TensorFlow's threads, for parts of 0 … count, each of which costs so many cycles.
template <typename Work>
void Parallel(OpKernelContext* context, int64_t count, int64_t cost, Work work) {
  const auto* workers = context->device()->tensorflow_cpu_worker_threads();
  tensorflow::Shard(workers->num_threads, workers->workers, count, cost, work);
}

template <int N>
using Width = std::integral_constant<int, N>;

// work(Width<N>(), channel) for groups of N · kLanes channels, at most kWidest · kLanes together, that fill registers.
template <int kWidest, typename Work>
void ForChannels(int64_t channels, Work work) {
  int64_t channel = 0;
  for (; channel + kWidest * kLanes <= channels; channel += kWidest * kLanes) work(Width<kWidest>(), channel);
  if constexpr (kWidest > 1) {
    ForChannels<kWidest / 2>(channels - channel, [&](auto width, int64_t rest) { work(width, channel + rest); });
  }
}

// The sums over parts of [parts, size], in an order that does not depend on who computed them.
inline std::vector<double> AddUp(const Tensor& parts) {
  const int64_t size = parts.dim_size(1);
  std::vector<double> sums(size);
  const float* part = Data(parts);
  for (int64_t number = 0; number < parts.dim_size(0); number++, part += size) {
    for (int64_t i = 0; i < size; i++) sums[i] += part[i];
  }
  return sums;
}

// Rows above an image, or columns left of it, that a kernel reaches into, with "same" padding.
inline int64_t PaddingBefore(int64_t image_side, int64_t map_side, int64_t stride) {
  return std::max<int64_t>((map_side - 1) * stride + kSide - image_side, 0) / 2;
}

}  // namespace vae_runner
