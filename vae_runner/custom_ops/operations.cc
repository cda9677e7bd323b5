// What a training step does to float32 maps besides its large convolutions, in as few passes over memory as there can
// be: TensorFlow's own operations, one by one, go over the same maps three times as often.
//
// Maps are [batch, height, width, channels], contiguous; channels are a multiple of kLanes, which the Python side sees
// to. Sums are taken block by block in float32 and over the blocks in double precision, in an order that does not
// depend on the number of threads: the results are the same bits in every run.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>
#include <utility>
#include <vector>

#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"
#include "tensorflow/core/util/work_sharder.h"

namespace vae_runner {
namespace {

using tensorflow::OpKernel;
using tensorflow::OpKernelConstruction;
using tensorflow::OpKernelContext;
using tensorflow::Tensor;
using tensorflow::TensorShape;

// Channels that are computed together: one register of AVX-512, two of AVX2, four of NEON.
constexpr int kLanes = 16;
typedef float Lanes __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));

// Pixels whose sums are taken in float32.
constexpr int64_t kBlock = 1024;

inline Lanes Load(const float* from) { return *reinterpret_cast<const Lanes*>(from); }
inline void Store(float* to, Lanes value) { *reinterpret_cast<Lanes*>(to) = value; }
inline Lanes Leaky(Lanes value, Lanes sign, float slope) { return sign > 0 ? value : value * slope; }

inline float Sum(Lanes value) {
  typedef float Half __attribute__((vector_size(2 * kLanes), aligned(4), may_alias));
  typedef float Quarter __attribute__((vector_size(kLanes), aligned(4), may_alias));
  const auto* halves = reinterpret_cast<const Half*>(&value);
  const Half half = halves[0] + halves[1];
  const auto* quarters = reinterpret_cast<const Quarter*>(&half);
  const Quarter quarter = quarters[0] + quarters[1];
  return (quarter[0] + quarter[2]) + (quarter[1] + quarter[3]);
}

inline const float* Data(const Tensor& tensor) { return tensor.flat<float>().data(); }
inline float* Data(Tensor* tensor) { return tensor->flat<float>().data(); }

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

// The sum over blocks of what each has: parts is [blocks, size].
std::vector<double> AddUp(const std::vector<float>& parts, int64_t size) {
  std::vector<double> sums(size);
  for (size_t block = 0; block < parts.size(); block += size) {
    for (int64_t i = 0; i < size; i++) sums[i] += parts[block + i];
  }
  return sums;
}

// Null, and the context failed, where there is no memory.
Tensor* Allocate(OpKernelContext* context, int index, const TensorShape& shape) {
  Tensor* output = nullptr;
  const absl::Status status = context->allocate_output(index, shape, &output);
  if (!status.ok()) context->CtxFailure(__FILE__, __LINE__, status);
  return output;
}

// --- Batch normalisation and LeakyReLU --------------------------------------------------------------------------------
//
// With d = x − mean: y = leaky_relu(d · scale + offset), scale = γ / √(variance + ε).

struct Maps {
  int64_t pixels, channels, blocks;
  explicit Maps(const Tensor& x)
      : pixels(x.NumElements() / x.dim_size(x.dims() - 1)),
        channels(x.dim_size(x.dims() - 1)),
        blocks((pixels + kBlock - 1) / kBlock) {}
  int64_t PixelsOf(int64_t block) const { return std::min(kBlock, pixels - block * kBlock); }
};

// The mean and biased variance of each channel, in one pass. Each block takes distances from its first pixel: sums of
// squares of the numbers themselves would cancel where the mean is far from 0.
void Moments(OpKernelContext* context, const Maps& maps, const float* x, float* mean, float* variance) {
  const int64_t channels = maps.channels;
  std::vector<float> means(maps.blocks * channels), squares(maps.blocks * channels);
  Parallel(context, maps.blocks, kBlock * channels, [&](int64_t first, int64_t last) {
    for (int64_t block = first; block < last; block++) {
      const int64_t count = maps.PixelsOf(block);
      ForChannels<4>(channels, [&](auto width, int64_t channel) {
        constexpr int N = decltype(width)::value;
        const float* from = x + block * kBlock * channels + channel;
        Lanes pivot[N], sum[N] = {}, square[N] = {};
        for (int i = 0; i < N; i++) pivot[i] = Load(from + i * kLanes);
        for (int64_t pixel = 0; pixel < count; pixel++, from += channels) {
          for (int i = 0; i < N; i++) {
            const Lanes distance = Load(from + i * kLanes) - pivot[i];
            sum[i] += distance;
            square[i] += distance * distance;
          }
        }
        const int64_t at = block * channels + channel;
        for (int i = 0; i < N; i++) {
          Store(&means[at + i * kLanes], pivot[i] + sum[i] / float(count));
          Store(&squares[at + i * kLanes], square[i] - sum[i] * sum[i] / float(count));
        }
      });
    }
  });
  for (int64_t channel = 0; channel < channels; channel++) {
    double center = 0, spread = 0;
    for (int64_t block = 0; block < maps.blocks; block++) {
      center += double(means[block * channels + channel]) * maps.PixelsOf(block) / maps.pixels;
    }
    for (int64_t block = 0; block < maps.blocks; block++) {
      const double distance = means[block * channels + channel] - center;
      spread += squares[block * channels + channel] + distance * distance * maps.PixelsOf(block);
    }
    mean[channel] = center;
    variance[channel] = std::max(spread / maps.pixels, 0.0);
  }
}

struct Normalization {
  const float *mean, *offset;
  std::vector<float> scale, inverse;  // inverse: 1 / √(variance + ε)
  float slope;

  Normalization(const float* mean, const float* variance, const Tensor& gamma, const Tensor& beta, float epsilon,
                float slope)
      : mean(mean), offset(Data(beta)), scale(gamma.NumElements()), inverse(gamma.NumElements()), slope(slope) {
    for (size_t i = 0; i < scale.size(); i++) {
      inverse[i] = 1 / std::sqrt(double(variance[i]) + epsilon);
      scale[i] = Data(gamma)[i] * inverse[i];
    }
  }
};

// A group of its channels, in registers.
template <int N>
struct Normalizer {
  Lanes mean[N], scale[N], offset[N];
  float slope;

  Normalizer(const Normalization& all, int64_t channel) : slope(all.slope) {
    for (int i = 0; i < N; i++) {
      mean[i] = Load(all.mean + channel + i * kLanes);
      scale[i] = Load(&all.scale[channel + i * kLanes]);
      offset[i] = Load(all.offset + channel + i * kLanes);
    }
  }
  Lanes Distance(const float* x, int i) const { return Load(x + i * kLanes) - mean[i]; }
  Lanes Normalized(Lanes distance, int i) const { return distance * scale[i] + offset[i]; }
  Lanes Activated(const float* x, int i) const {
    const Lanes normalized = Normalized(Distance(x, i), i);
    return Leaky(normalized, normalized, slope);
  }
};

// What the moments owe to x: with g the gradient of d · scale + offset, dx = scale · g − constant − d · linear.
struct Correction {
  std::vector<float> constant, linear;

  // From the sums over all pixels of g and of g · d; gives the gradients of γ and β, too.
  Correction(const Normalization& norm, int64_t pixels, const double* of_g, const double* of_gd, float* dgamma,
             float* dbeta)
      : constant(norm.scale.size()), linear(norm.scale.size()) {
    for (size_t i = 0; i < constant.size(); i++) {
      dgamma[i] = of_gd[i] * norm.inverse[i];
      dbeta[i] = of_g[i];
      constant[i] = norm.scale[i] * of_g[i] / pixels;
      linear[i] = norm.scale[i] * of_gd[i] * norm.inverse[i] * norm.inverse[i] / pixels;
    }
  }
};

class NormalizedOp : public OpKernel {
 public:
  explicit NormalizedOp(OpKernelConstruction* construction) : OpKernel(construction) {
    OP_REQUIRES_OK(construction, construction->GetAttr("epsilon", &epsilon_));
    OP_REQUIRES_OK(construction, construction->GetAttr("slope", &slope_));
  }

 protected:
  float epsilon_, slope_;
};

// x, gamma, beta → y, mean, variance
class NormalizedLeakyReluOp : public NormalizedOp {
 public:
  using NormalizedOp::NormalizedOp;

  void Compute(OpKernelContext* context) override {
    const Tensor &x = context->input(0), &gamma = context->input(1), &beta = context->input(2);
    const Maps maps(x);
    const int64_t channels = maps.channels;
    Tensor* y = Allocate(context, 0, x.shape());
    Tensor* mean = Allocate(context, 1, gamma.shape());
    Tensor* variance = Allocate(context, 2, gamma.shape());
    if (!context->status().ok()) return;
    Moments(context, maps, Data(x), Data(mean), Data(variance));
    const Normalization norm(Data(mean), Data(variance), gamma, beta, epsilon_, slope_);
    Parallel(context, maps.blocks, kBlock * channels, [&](int64_t first, int64_t last) {
      for (int64_t block = first; block < last; block++) {
        ForChannels<4>(channels, [&](auto width, int64_t channel) {
          constexpr int N = decltype(width)::value;
          const Normalizer<N> normalizer(norm, channel);
          const int64_t at = block * kBlock * channels + channel;
          const float* from = Data(x) + at;
          float* to = Data(y) + at;
          for (int64_t pixel = maps.PixelsOf(block); pixel > 0; pixel--, from += channels, to += channels) {
            for (int i = 0; i < N; i++) Store(to + i * kLanes, normalizer.Activated(from, i));
          }
        });
      }
    });
  }
};

// dy, x, gamma, beta, mean, variance → dx, dgamma, dbeta
class NormalizedLeakyReluGradOp : public NormalizedOp {
 public:
  using NormalizedOp::NormalizedOp;

  void Compute(OpKernelContext* context) override {
    const Tensor &dy = context->input(0), &x = context->input(1), &gamma = context->input(2);
    const Maps maps(x);
    const int64_t channels = maps.channels;
    Tensor* dx = nullptr;
    OP_REQUIRES_OK(context, context->forward_input_or_allocate_output({0}, 0, x.shape(), &dx));
    Tensor* dgamma = Allocate(context, 1, gamma.shape());
    Tensor* dbeta = Allocate(context, 2, gamma.shape());
    if (!context->status().ok()) return;
    const Normalization norm(Data(context->input(4)), Data(context->input(5)), gamma, context->input(3), epsilon_,
                             slope_);
    std::vector<float> of_g(maps.blocks * channels), of_gd(maps.blocks * channels);
    Parallel(context, maps.blocks, 2 * kBlock * channels, [&](int64_t first, int64_t last) {
      for (int64_t block = first; block < last; block++) {
        ForChannels<4>(channels, [&](auto width, int64_t channel) {
          constexpr int N = decltype(width)::value;
          const Normalizer<N> normalizer(norm, channel);
          const int64_t at = block * kBlock * channels + channel;
          const float *from = Data(x) + at, *gradient = Data(dy) + at;
          Lanes sum[N] = {}, product[N] = {};
          for (int64_t pixel = maps.PixelsOf(block); pixel > 0; pixel--, from += channels, gradient += channels) {
            for (int i = 0; i < N; i++) {
              const Lanes distance = normalizer.Distance(from, i);
              const Lanes g = Leaky(Load(gradient + i * kLanes), normalizer.Normalized(distance, i), slope_);
              sum[i] += g;
              product[i] += g * distance;
            }
          }
          for (int i = 0; i < N; i++) {
            Store(&of_g[block * channels + channel + i * kLanes], sum[i]);
            Store(&of_gd[block * channels + channel + i * kLanes], product[i]);
          }
        });
      }
    });
    const Correction correction(norm, maps.pixels, AddUp(of_g, channels).data(), AddUp(of_gd, channels).data(),
                                Data(dgamma), Data(dbeta));
    Parallel(context, maps.blocks, 2 * kBlock * channels, [&](int64_t first, int64_t last) {
      for (int64_t block = first; block < last; block++) {
        ForChannels<2>(channels, [&](auto width, int64_t channel) {
          constexpr int N = decltype(width)::value;
          const Normalizer<N> normalizer(norm, channel);
          const int64_t at = block * kBlock * channels + channel;
          const float *from = Data(x) + at, *gradient = Data(dy) + at;
          float* to = Data(dx) + at;
          Lanes constant[N], linear[N];
          for (int i = 0; i < N; i++) {
            constant[i] = Load(&correction.constant[channel + i * kLanes]);
            linear[i] = Load(&correction.linear[channel + i * kLanes]);
          }
          for (int64_t pixel = maps.PixelsOf(block); pixel > 0;
               pixel--, from += channels, gradient += channels, to += channels) {
            for (int i = 0; i < N; i++) {
              const Lanes distance = normalizer.Distance(from, i);
              const Lanes g = Leaky(Load(gradient + i * kLanes), normalizer.Normalized(distance, i), slope_);
              Store(to + i * kLanes, g * normalizer.scale[i] - constant[i] - distance * linear[i]);
            }
          }
        });
      }
    });
  }
};

// --- 3×3 kernels between images, of one or three channels, and maps ----------------------------------------------------

constexpr int kSide = 3;

// Where the kernel stands on an image for each pixel of the maps, with "same" padding.
struct Window {
  int64_t images, height, width, image_channels;  // of the images
  int64_t map_height, map_width;
  int64_t stride, top, left;       // rows above, and columns left of, the image
  int64_t band, bands_each, bands;  // rows of maps that are computed together, how many such bands

  Window(const TensorShape& shape, int64_t stride)
      : images(shape.dim_size(0)),
        height(shape.dim_size(1)),
        width(shape.dim_size(2)),
        image_channels(shape.dim_size(3)),
        map_height((height + stride - 1) / stride),
        map_width((width + stride - 1) / stride),
        stride(stride),
        top(std::max<int64_t>((map_height - 1) * stride + kSide - height, 0) / 2),
        left(std::max<int64_t>((map_width - 1) * stride + kSide - width, 0) / 2),
        band(std::clamp<int64_t>(kBlock / map_width, 1, map_height)),
        bands_each((map_height + band - 1) / band),
        bands(images * bands_each) {}

  int64_t RowLength() const { return ((map_width - 1) * stride + kSide) * image_channels; }
  int64_t ImageOf(int64_t number) const { return number / bands_each; }
  int64_t FirstRow(int64_t number) const { return number % bands_each * band; }
  int64_t LastRow(int64_t number) const { return std::min(FirstRow(number) + band, map_height); }
  int64_t Pixels() const { return band * map_width; }
};

// The rows of an image that a band sees, zeros around it.
class Padded {
 public:
  Padded(const Window& window, const float* images)
      : window_(window),
        images_(images),
        row_length_(window.RowLength()),
        rows_(((window.band - 1) * window.stride + kSide) * window.RowLength()) {}

  void Fill(int64_t band) {
    const int64_t first = window_.FirstRow(band) * window_.stride - window_.top;
    const int64_t channels = window_.image_channels;
    const int64_t inside = std::min(window_.width * channels, row_length_ - window_.left * channels);
    for (size_t row = 0; row < rows_.size() / row_length_; row++) {
      float* to = &rows_[row * row_length_];
      const int64_t y = first + int64_t(row);
      std::fill(to, to + row_length_, 0.0f);
      if (y < 0 || y >= window_.height) continue;
      const float* from = images_ + (window_.ImageOf(band) * window_.height + y) * window_.width * channels;
      std::copy(from, from + inside, to + window_.left * channels);
    }
  }

  // work(upper left corner of what the kernel sees, where the pixel begins in maps of so many channels), for the pixels
  // of a band of maps.
  template <typename Work>
  void ForPixels(int64_t band, int64_t channels, Work work) const {
    const int64_t start = window_.ImageOf(band) * window_.map_height + window_.FirstRow(band);
    int64_t at = start * window_.map_width * channels;
    for (int64_t row = 0; row < window_.LastRow(band) - window_.FirstRow(band); row++) {
      const float* corner = &rows_[row * window_.stride * row_length_];
      for (int64_t column = 0; column < window_.map_width; column++, at += channels) {
        work(corner, at);
        corner += window_.stride * window_.image_channels;
      }
    }
  }
  int64_t row_length() const { return row_length_; }

 private:
  const Window& window_;
  const float* images_;
  const int64_t row_length_;
  std::vector<float> rows_;
};

// One number of the patch at `corner`: tap 0 … 9 · kChannels, in the order of a kernel's rows, columns and channels.
template <int kChannels>
inline float Tap(const float* corner, int64_t row_length, int tap) {
  return corner[tap / (kSide * kChannels) * row_length + tap % (kSide * kChannels)];
}

// A kernel's N · kLanes channels of the maps, in registers: kernel is [3, 3, kChannels, channels].
template <int kChannels, int N>
struct Taps {
  static constexpr int kCount = kSide * kSide * kChannels;
  Lanes weight[kCount][N];

  Taps(const float* kernel, int64_t channels, int64_t channel) {
    for (int tap = 0; tap < kCount; tap++) {
      for (int i = 0; i < N; i++) weight[tap][i] = Load(kernel + tap * channels + channel + i * kLanes);
    }
  }
  Lanes Product(const float* corner, int64_t row_length, int i) const {
    Lanes sum = Tap<kChannels>(corner, row_length, 0) * weight[0][i];
    for (int tap = 1; tap < kCount; tap++) sum += Tap<kChannels>(corner, row_length, tap) * weight[tap][i];
    return sum;
  }
};

// work(Width<kChannels>()) for images of one or three channels.
template <typename Work>
void ForImages(int64_t channels, Work work) {
  if (channels == 1) {
    work(Width<1>());
  } else {
    work(Width<3>());
  }
}

class StridedOp : public OpKernel {
 public:
  explicit StridedOp(OpKernelConstruction* construction) : OpKernel(construction) {
    OP_REQUIRES_OK(construction, construction->GetAttr("stride", &stride_));
  }

 protected:
  int stride_;
};

// images [batch, height, width, 1], pivot [] → sums [10, 10] over all patches p of the products of (p − pivot, 1)
class PatchSumsOp : public StridedOp {
 public:
  using StridedOp::StridedOp;

  void Compute(OpKernelContext* context) override {
    constexpr int kCount = kSide * kSide;
    const Tensor& images = context->input(0);
    const float pivot = Data(context->input(1))[0];
    const Window window(images.shape(), stride_);
    Tensor* sums = Allocate(context, 0, TensorShape({kCount + 1, kCount + 1}));
    if (!context->status().ok()) return;
    std::vector<float> parts(window.bands * (kCount + 1) * kLanes);
    Parallel(context, window.bands, 40 * window.Pixels(), [&](int64_t first, int64_t last) {
      Padded padded(window, Data(images));
      for (int64_t band = first; band < last; band++) {
        padded.Fill(band);
        Lanes sum[kCount + 1] = {};
        padded.ForPixels(band, 0, [&](const float* corner, int64_t) {
          Lanes patch = {};
          for (int tap = 0; tap < kCount; tap++) patch[tap] = Tap<1>(corner, padded.row_length(), tap) - pivot;
          patch[kCount] = 1;
          for (int i = 0; i <= kCount; i++) sum[i] += patch[i] * patch;
        });
        for (int i = 0; i <= kCount; i++) Store(&parts[(band * (kCount + 1) + i) * kLanes], sum[i]);
      }
    });
    const std::vector<double> total = AddUp(parts, (kCount + 1) * kLanes);
    for (int i = 0; i <= kCount; i++) {
      std::copy(&total[i * kLanes], &total[i * kLanes] + kCount + 1, Data(sums) + i * (kCount + 1));
    }
  }
};

// images, kernel, bias → maps: leaky_relu(convolution + bias)
class ConvolvedImagesOp : public StridedOp {
 public:
  explicit ConvolvedImagesOp(OpKernelConstruction* construction) : StridedOp(construction) {
    OP_REQUIRES_OK(construction, construction->GetAttr("slope", &slope_));
  }

  void Compute(OpKernelContext* context) override {
    const Tensor &images = context->input(0), &kernel = context->input(1), &bias = context->input(2);
    const Window window(images.shape(), stride_);
    const int64_t channels = bias.NumElements();
    Tensor* maps = Allocate(context, 0, TensorShape({window.images, window.map_height, window.map_width, channels}));
    if (!context->status().ok()) return;
    ForImages(window.image_channels, [&](auto depth) {
      constexpr int kChannels = decltype(depth)::value;
      Parallel(context, window.bands, kChannels * window.Pixels() * channels, [&](int64_t first, int64_t last) {
        Padded padded(window, Data(images));
        for (int64_t band = first; band < last; band++) {
          padded.Fill(band);
          ForChannels<kChannels == 1 ? 2 : 1>(channels, [&](auto width, int64_t channel) {
            constexpr int N = decltype(width)::value;
            const Taps<kChannels, N> taps(Data(kernel), channels, channel);
            const float* offset = Data(bias) + channel;
            float* to = Data(maps) + channel;
            padded.ForPixels(band, channels, [&](const float* corner, int64_t at) {
              for (int i = 0; i < N; i++) {
                const Lanes sum = taps.Product(corner, padded.row_length(), i) + Load(offset + i * kLanes);
                Store(to + at + i * kLanes, Leaky(sum, sum, slope_));
              }
            });
          });
        }
      });
    });
  }

 private:
  float slope_;
};

// dmaps, images, kernel, bias → dkernel, dbias; which side of LeakyReLU's bend a pixel is on costs less to compute again
// than to read.
class ConvolvedImagesGradOp : public StridedOp {
 public:
  explicit ConvolvedImagesGradOp(OpKernelConstruction* construction) : StridedOp(construction) {
    OP_REQUIRES_OK(construction, construction->GetAttr("slope", &slope_));
  }

  void Compute(OpKernelContext* context) override {
    const Tensor &dmaps = context->input(0), &images = context->input(1), &kernel = context->input(2);
    const Tensor& bias = context->input(3);
    const Window window(images.shape(), stride_);
    const int64_t channels = bias.NumElements(), size = kernel.NumElements() + channels;
    Tensor* dkernel = Allocate(context, 0, kernel.shape());
    Tensor* dbias = Allocate(context, 1, bias.shape());
    if (!context->status().ok()) return;
    std::vector<float> parts(window.bands * size);
    ForImages(window.image_channels, [&](auto depth) {
      constexpr int kChannels = decltype(depth)::value;
      Parallel(context, window.bands, 2 * kChannels * window.Pixels() * channels, [&](int64_t first, int64_t last) {
        Padded padded(window, Data(images));
        for (int64_t band = first; band < last; band++) {
          padded.Fill(band);
          ForChannels<1>(channels, [&](auto, int64_t channel) {
            Sums<kChannels>(padded, band, Data(dmaps), Data(kernel), Data(bias), channels, channel, &parts[band * size]);
          });
        }
      });
    });
    const std::vector<double> total = AddUp(parts, size);
    std::copy(total.begin(), total.end() - channels, Data(dkernel));
    std::copy(total.end() - channels, total.end(), Data(dbias));
  }

 private:
  // The sums of one band for kLanes channels: of the kernel's taps and of the bias.
  template <int kChannels>
  void Sums(const Padded& padded, int64_t band, const float* dmaps, const float* kernel, const float* bias,
            int64_t channels, int64_t channel, float* part) {
    constexpr int kCount = kSide * kSide * kChannels;
    const Taps<kChannels, 1> taps(kernel, channels, channel);
    const Lanes offset = Load(bias + channel);
    Lanes of_tap[kCount] = {}, of_bias = {};
    padded.ForPixels(band, channels, [&](const float* corner, int64_t at) {
      const Lanes sign = taps.Product(corner, padded.row_length(), 0) + offset;
      const Lanes g = Leaky(Load(dmaps + at + channel), sign, slope_);
      for (int tap = 0; tap < kCount; tap++) of_tap[tap] += Tap<kChannels>(corner, padded.row_length(), tap) * g;
      of_bias += g;
    });
    for (int tap = 0; tap < kCount; tap++) Store(part + tap * channels + channel, of_tap[tap]);
    Store(part + kCount * channels + channel, of_bias);
  }

  float slope_;
};

// --- Normalisation, LeakyReLU and the transposed convolution of stride 1 that makes images, without the maps between ---

// x, gamma, beta, kernel [3, 3, image channels, channels], bias → images, mean, variance
class MadeImagesOp : public NormalizedOp {
 public:
  using NormalizedOp::NormalizedOp;

  void Compute(OpKernelContext* context) override {
    const Tensor &x = context->input(0), &gamma = context->input(1), &kernel = context->input(3);
    TensorShape shape = x.shape();
    shape.set_dim(3, kernel.dim_size(2));
    Tensor* images = Allocate(context, 0, shape);
    Tensor* mean = Allocate(context, 1, gamma.shape());
    Tensor* variance = Allocate(context, 2, gamma.shape());
    if (!context->status().ok()) return;
    const Maps maps(x);
    Moments(context, maps, Data(x), Data(mean), Data(variance));
    const Normalization norm(Data(mean), Data(variance), gamma, context->input(2), epsilon_, slope_);
    const Window window(shape, 1);
    Parallel(context, window.bands, 2 * window.Pixels() * maps.channels, [&](int64_t first, int64_t last) {
      Rows rows(window.map_width, maps.channels);
      for (int64_t band = first; band < last; band++) {
        const int64_t start = window.ImageOf(band) * window.height;
        for (int64_t row = window.FirstRow(band) - 1; row <= window.LastRow(band); row++) {
          rows.Put(row, row < 0 || row >= window.height ? nullptr : Data(x) + (start + row) * rows.length, norm);
          if (row > window.FirstRow(band)) {
            float* to = Data(images) + (start + row - 1) * window.width * window.image_channels;
            ForImages(window.image_channels, [&](auto depth) {
              Make(rows, row - 1, depth, Data(kernel), Data(context->input(4)), to);
            });
          }
        }
      }
    });
  }

 private:
  // The last three rows of maps, activated, with a pixel of zeros at each end.
  struct Rows {
    int64_t width, channels, length;
    std::vector<float> rows, sums;

    Rows(int64_t width, int64_t channels)
        : width(width),
          channels(channels),
          length(width * channels),
          rows(kSide * (width + 2) * channels),
          sums(width * kLanes) {}
    float* At(int64_t row) { return &rows[(row + kSide) % kSide * (width + 2) * channels]; }
    void Put(int64_t row, const float* x, const Normalization& norm) {
      float* to = At(row) + channels;
      if (x == nullptr) {
        std::fill(to, to + length, 0.0f);
        return;
      }
      ForChannels<4>(channels, [&](auto group, int64_t channel) {
        constexpr int N = decltype(group)::value;
        const Normalizer<N> normalizer(norm, channel);
        for (int64_t at = channel; at < length; at += channels) {
          for (int i = 0; i < N; i++) Store(to + at + i * kLanes, normalizer.Activated(x + at, i));
        }
      });
    }
  };

  // A row of images. Pixel (y, x) of the maps goes to (y + row − 1, x + column − 1), so pixel (y, x) of the images comes
  // from (y + 1 − row, x + 1 − column).
  template <int kChannels>
  static void Make(Rows& rows, int64_t y, Width<kChannels>, const float* kernel, const float* bias, float* to) {
    const int64_t channels = rows.channels;
    const float* from[kSide] = {rows.At(y + 1), rows.At(y), rows.At(y - 1)};
    for (int image_channel = 0; image_channel < kChannels; image_channel++) {
      std::fill(rows.sums.begin(), rows.sums.end(), 0.0f);
      ForChannels<2>(channels, [&](auto group, int64_t channel) {
        constexpr int N = decltype(group)::value;
        Lanes weight[kSide][kSide][N];
        for (int row = 0; row < kSide; row++) {
          for (int column = 0; column < kSide; column++) {
            const float* at = kernel + ((row * kSide + column) * kChannels + image_channel) * channels + channel;
            for (int i = 0; i < N; i++) weight[row][column][i] = Load(at + i * kLanes);
          }
        }
        for (int64_t x = 0; x < rows.width; x++) {
          float* so_far = &rows.sums[x * kLanes];
          Lanes sum[kSide] = {Load(so_far)};
          for (int row = 0; row < kSide; row++) {
            for (int column = 0; column < kSide; column++) {
              const float* at = from[row] + (x + 2 - column) * channels + channel;
              for (int i = 0; i < N; i++) sum[column] += Load(at + i * kLanes) * weight[row][column][i];
            }
          }
          Store(so_far, sum[0] + sum[1] + sum[2]);
        }
      });
      for (int64_t x = 0; x < rows.width; x++) {
        to[x * kChannels + image_channel] = Sum(Load(&rows.sums[x * kLanes])) + bias[image_channel];
      }
    }
  }
};

// dimages, x, gamma, beta, kernel, mean, variance → dx, dgamma, dbeta, dkernel, dbias
class MadeImagesGradOp : public NormalizedOp {
 public:
  using NormalizedOp::NormalizedOp;

  void Compute(OpKernelContext* context) override {
    const Tensor &dimages = context->input(0), &x = context->input(1), &gamma = context->input(2);
    const Tensor& kernel = context->input(4);
    const Window window(dimages.shape(), 1);
    const Maps maps(x);
    const int64_t channels = maps.channels, taps = kernel.NumElements(), size = taps + 2 * channels;
    Tensor* dx = Allocate(context, 0, x.shape());
    Tensor* dgamma = Allocate(context, 1, gamma.shape());
    Tensor* dbeta = Allocate(context, 2, gamma.shape());
    Tensor* dkernel = Allocate(context, 3, kernel.shape());
    Tensor* dbias = Allocate(context, 4, TensorShape({window.image_channels}));
    if (!context->status().ok()) return;
    SumImages(dimages, dbias);
    const Normalization norm(Data(context->input(5)), Data(context->input(6)), gamma, context->input(3), epsilon_,
                             slope_);
    std::vector<float> parts(window.bands * size);
    ForImages(window.image_channels, [&](auto depth) {
      constexpr int kChannels = decltype(depth)::value;
      const auto for_bands = [&](auto work) {
        Parallel(context, window.bands, 2 * kChannels * window.Pixels() * channels, [&](int64_t first, int64_t last) {
          Padded padded(window, Data(dimages));
          for (int64_t band = first; band < last; band++) {
            padded.Fill(band);
            ForChannels<1>(channels, [&](auto, int64_t channel) { work(padded, band, channel); });
          }
        });
      };
      for_bands([&](const Padded& padded, int64_t band, int64_t channel) {
        Sums<kChannels>(padded, band, norm, Data(x), Data(kernel), channels, channel, &parts[band * size]);
      });
      const std::vector<double> total = AddUp(parts, size);
      std::copy(total.begin(), total.begin() + taps, Data(dkernel));
      const Correction correction(norm, maps.pixels, &total[taps], &total[taps + channels], Data(dgamma), Data(dbeta));
      for_bands([&](const Padded& padded, int64_t band, int64_t channel) {
        Inputs<kChannels>(padded, band, norm, correction, Data(x), Data(kernel), channels, channel, Data(dx));
      });
    });
  }

 private:
  static void SumImages(const Tensor& images, Tensor* sums) {
    const int64_t channels = sums->NumElements();
    for (int64_t channel = 0; channel < channels; channel++) {
      double sum = 0;
      for (int64_t at = channel; at < images.NumElements(); at += channels) sum += Data(images)[at];
      Data(sums)[channel] = sum;
    }
  }

  // The sums of one band for kLanes channels: of the kernel's taps, of g and of g · d.
  template <int kChannels>
  void Sums(const Padded& padded, int64_t band, const Normalization& norm, const float* x, const float* kernel,
            int64_t channels, int64_t channel, float* part) {
    constexpr int kCount = kSide * kSide * kChannels;
    const Normalizer<1> normalizer(norm, channel);
    const Taps<kChannels, 1> taps(kernel, channels, channel);
    Lanes of_tap[kCount] = {}, of_g = {}, of_gd = {};
    padded.ForPixels(band, channels, [&](const float* corner, int64_t at) {
      const Lanes distance = normalizer.Distance(x + at + channel, 0);
      const Lanes normalized = normalizer.Normalized(distance, 0);
      const Lanes activated = Leaky(normalized, normalized, slope_);
      const Lanes g = Leaky(taps.Product(corner, padded.row_length(), 0), normalized, slope_);
      for (int tap = 0; tap < kCount; tap++) {
        of_tap[tap] += Tap<kChannels>(corner, padded.row_length(), tap) * activated;
      }
      of_g += g;
      of_gd += g * distance;
    });
    for (int tap = 0; tap < kCount; tap++) Store(part + tap * channels + channel, of_tap[tap]);
    Store(part + kCount * channels + channel, of_g);
    Store(part + (kCount + 1) * channels + channel, of_gd);
  }

  // The gradient of x in one band, for kLanes channels.
  template <int kChannels>
  void Inputs(const Padded& padded, int64_t band, const Normalization& norm, const Correction& correction,
              const float* x, const float* kernel, int64_t channels, int64_t channel, float* dx) {
    const Normalizer<1> normalizer(norm, channel);
    const Taps<kChannels, 1> taps(kernel, channels, channel);
    const Lanes constant = Load(&correction.constant[channel]), linear = Load(&correction.linear[channel]);
    padded.ForPixels(band, channels, [&](const float* corner, int64_t at) {
      const Lanes distance = normalizer.Distance(x + at + channel, 0);
      const Lanes product = taps.Product(corner, padded.row_length(), 0);
      const Lanes g = Leaky(product, normalizer.Normalized(distance, 0), slope_);
      Store(dx + at + channel, g * normalizer.scale[0] - constant - distance * linear);
    });
  }
};

// --- What a 3×3 convolution of any stride owes to its inputs, which is also a transposed convolution ---------------------
//
// Input (y, x) meets tap (row, column) of the kernel in output ((y + top − row) / stride, (x + left − column) / stride),
// where both are whole. So the inputs of a row that are `stride` apart meet the same taps, and are computed together.

// The taps that a row of inputs meets: for each, the first output and the weights.
struct Meetings {
  int count = 0;
  const float *outputs[kSide * kSide], *weights[kSide * kSide];
};

// The sums over taps and filters for kPixels inputs, the first of which is the so-manieth of its row, and N · kLanes of
// their channels.
template <int kPixels, int N>
void InputTile(const Meetings& meetings, int64_t first, int64_t channel, int64_t filters, int64_t channels, float* to,
               int64_t step) {
  Lanes sum[kPixels][N] = {};
  for (int tap = 0; tap < meetings.count; tap++) {
    const float* output = meetings.outputs[tap] + first * filters;
    const float* weight = meetings.weights[tap] + channel;
    for (int64_t filter = 0; filter < filters; filter++, weight += channels) {
      Lanes of_filter[N];
      for (int i = 0; i < N; i++) of_filter[i] = Load(weight + i * kLanes);
      for (int pixel = 0; pixel < kPixels; pixel++) {
        for (int i = 0; i < N; i++) sum[pixel][i] += output[pixel * filters + filter] * of_filter[i];
      }
    }
  }
  for (int pixel = 0; pixel < kPixels; pixel++) {
    for (int i = 0; i < N; i++) Store(to + pixel * step + i * kLanes, sum[pixel][i]);
  }
}

// The same for a number of pixels that is known only now: 1 … as many as there are in the sequence.
template <int N, int... kBefore, typename... Arguments>
void InputTileOf(int64_t pixels, std::integer_sequence<int, kBefore...>, const Arguments&... arguments) {
  ((pixels == kBefore + 1 ? InputTile<kBefore + 1, N>(arguments...) : void()), ...);
}

// outputs [batch, output height, output width, filters], kernel [3, 3, channels, filters] → inputs
class ConvolutionInputsOp : public StridedOp {
 public:
  explicit ConvolutionInputsOp(OpKernelConstruction* construction) : StridedOp(construction) {
    OP_REQUIRES_OK(construction, construction->GetAttr("height", &height_));
    OP_REQUIRES_OK(construction, construction->GetAttr("width", &width_));
  }

  void Compute(OpKernelContext* context) override {
    const Tensor &outputs = context->input(0), &kernel = context->input(1);
    const Sizes sizes(outputs, kernel, height_, width_, stride_);
    Tensor* inputs = Allocate(context, 0, TensorShape({outputs.dim_size(0), height_, width_, sizes.channels}));
    if (!context->status().ok()) return;
    const std::vector<float> weights = Transposed(Data(kernel), sizes);
    const float* from = Data(outputs);
    float* to = Data(inputs);
    const int64_t cost = sizes.map_height * sizes.map_width * sizes.filters * sizes.channels;
    Parallel(context, outputs.dim_size(0), cost, [&](int64_t first, int64_t last) {
      std::vector<float> padded(sizes.map_height * sizes.PaddedLength());
      for (int64_t image = first; image < last; image++) {
        Pad(sizes, from + image * sizes.map_height * sizes.map_width * sizes.filters, padded.data());
        for (int64_t y = 0; y < sizes.height; y++) {
          for (int64_t x = 0; x < std::min(sizes.stride, sizes.width); x++) {
            float* row = to + (image * sizes.height + y) * sizes.width * sizes.channels;
            Inputs(sizes, padded.data(), weights.data(), y, x, row);
          }
        }
      }
    });
  }

 private:
  struct Sizes {
    int64_t height, width, channels;  // of the inputs
    int64_t map_height, map_width, filters;
    int64_t stride, top, left;
    Sizes(const Tensor& outputs, const Tensor& kernel, int64_t height, int64_t width, int64_t stride)
        : height(height),
          width(width),
          channels(kernel.dim_size(2)),
          map_height(outputs.dim_size(1)),
          map_width(outputs.dim_size(2)),
          filters(kernel.dim_size(3)),
          stride(stride),
          top(std::max<int64_t>((map_height - 1) * stride + kSide - height, 0) / 2),
          left(std::max<int64_t>((map_width - 1) * stride + kSide - width, 0) / 2) {}
    // Rows get a margin of zeros that the taps reach into.
    int64_t PaddedLength() const { return (map_width + 2 * kSide) * filters; }
  };

  // The kernel as [3, 3, filters, channels], which are the lanes here.
  static std::vector<float> Transposed(const float* kernel, const Sizes& sizes) {
    const int64_t filters = sizes.filters, channels = sizes.channels;
    std::vector<float> transposed(kSide * kSide * filters * channels);
    for (int64_t tap = 0; tap < kSide * kSide; tap++) {
      for (int64_t channel = 0; channel < channels; channel++) {
        for (int64_t filter = 0; filter < filters; filter++) {
          transposed[(tap * filters + filter) * channels + channel] = *kernel++;
        }
      }
    }
    return transposed;
  }

  static void Pad(const Sizes& sizes, const float* image, float* padded) {
    const int64_t length = sizes.map_width * sizes.filters;
    for (int64_t row = 0; row < sizes.map_height; row++) {
      std::copy(image + row * length, image + (row + 1) * length,
                padded + row * sizes.PaddedLength() + kSide * sizes.filters);
    }
  }

  // Inputs (y, x), (y, x + stride), … of an image, whose row y begins at `to`.
  static void Inputs(const Sizes& sizes, const float* padded, const float* weights, int64_t y, int64_t x, float* to) {
    const int64_t stride = sizes.stride, filters = sizes.filters, channels = sizes.channels;
    Meetings meetings;
    for (int64_t row = 0; row < kSide; row++) {
      const int64_t down = y + sizes.top - row;
      if (down < 0 || down % stride != 0 || down / stride >= sizes.map_height) continue;
      for (int64_t column = 0; column < kSide; column++) {
        const int64_t across = x + sizes.left - column + kSide * stride;  // positive
        if (across % stride != 0) continue;
        meetings.outputs[meetings.count] = padded + down / stride * sizes.PaddedLength() + across / stride * filters;
        meetings.weights[meetings.count++] = weights + (row * kSide + column) * filters * channels;
      }
    }
    const int64_t count = (sizes.width - x + stride - 1) / stride;
    ForChannels<2>(channels, [&](auto width, int64_t channel) {
      constexpr int N = decltype(width)::value;
      constexpr int kMost = 8;  // enough for sums not to wait for each other, few enough for the registers
      const int64_t tiles = (count + kMost - 1) / kMost;
      for (int64_t tile = 0; tile < tiles; tile++) {
        const int64_t first = count * tile / tiles, last = count * (tile + 1) / tiles;
        InputTileOf<N>(last - first, std::make_integer_sequence<int, kMost>(), meetings, first, channel, filters,
                       channels, to + (x + first * stride) * channels + channel, stride * channels);
      }
    });
  }

  int height_, width_;
};

// --- Registration -----------------------------------------------------------------------------------------------------

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

REGISTER_OP("VaeRunnerConvolvedImages")
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

REGISTER_OP("VaeRunnerConvolvedImagesGrad")
    .Attr("stride: int")
    .Attr("slope: float")
    .Input("dmaps: float")
    .Input("images: float")
    .Input("kernel: float")
    .Input("bias: float")
    .Output("dkernel: float")
    .Output("dbias: float")
    .SetShapeFn(ShapesOf<2, 3>);

REGISTER_OP("VaeRunnerMadeImages")
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

REGISTER_OP("VaeRunnerMadeImagesGrad")
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

REGISTER_OP("VaeRunnerConvolutionInputs")
    .Attr("stride: int")
    .Attr("height: int")
    .Attr("width: int")
    .Input("outputs: float")
    .Input("kernel: float")
    .Output("inputs: float")
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
REGISTER(ConvolvedImages);
REGISTER(ConvolvedImagesGrad);
REGISTER(MadeImages);
REGISTER(MadeImagesGrad);
REGISTER(ConvolutionInputs);
#undef REGISTER

}  // namespace
}  // namespace vae_runner
