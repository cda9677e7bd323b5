// Batch normalisation and LeakyReLU. With d = x − mean: y = leaky_relu(d · scale + beta), scale = γ / √(variance + ε).

#pragma once

#include <algorithm>
#include <cmath>
#include <optional>

#include "lanes.h"

namespace vae_runner {

struct Maps {
  int64_t pixels, channels, blocks;
  explicit Maps(const Tensor& x)
      : pixels(x.dim_size(0) * x.dim_size(1) * x.dim_size(2)),
        channels(x.dim_size(3)),
        blocks((pixels + kBlock - 1) / kBlock) {}
  int64_t PixelsOf(int64_t block) const { return std::min(kBlock, pixels - block * kBlock); }
};

// The means and sums of squared distances from them, of N · kLanes channels of so many pixels. A run of pixels takes
// distances from the mean of those before, the first one from its first pixel: squares of the numbers themselves would
// cancel where the mean is far from 0.
template <int N>
void MomentsOf(const float* x, int64_t pixels, int64_t channels, float* means, float* squares) {
  constexpr int64_t kRun = 64;
  Lanes mean[N], total[N] = {};
  for (int i = 0; i < N; i++) mean[i] = Load(x + i * kLanes);
  for (int64_t before = 0; before < pixels; before += kRun) {
    const int64_t count = std::min(kRun, pixels - before);
    Lanes sum[N] = {}, square[N] = {};
    for (int64_t pixel = 0; pixel < count; pixel++, x += channels) {
      for (int i = 0; i < N; i++) {
        const Lanes distance = Load(x + i * kLanes) - mean[i];
        sum[i] += distance;
        square[i] += distance * distance;
      }
    }
    // Chan, Golub & LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979
    for (int i = 0; i < N; i++) {
      const Lanes shift = sum[i] / float(before + count);
      total[i] += square[i] - sum[i] * shift;
      mean[i] += shift;
    }
  }
  for (int i = 0; i < N; i++) {
    Store(means + i * kLanes, mean[i]);
    Store(squares + i * kLanes, total[i]);
  }
}

// The mean and biased variance of each channel, in one pass over x.
inline void Moments(OpKernelContext* context, const Maps& maps, const float* x, float* mean, float* variance) {
  const int64_t channels = maps.channels;
  Tensor scratch = Scratch(context, maps.blocks, 2 * channels);
  if (!context->status().ok()) return;
  float* parts = Data(&scratch);
  Parallel(context, maps.blocks, kBlock * channels, [&](int64_t first, int64_t last) {
    for (int64_t block = first; block < last; block++) {
      float* part = parts + block * 2 * channels;
      ForChannels<4>(channels, [&](auto width, int64_t channel) {
        MomentsOf<decltype(width)::value>(x + block * kBlock * channels + channel, maps.PixelsOf(block), channels,
                                          part + channel, part + channels + channel);
      });
    }
  });
  for (int64_t channel = 0; channel < channels; channel++) {
    double center = maps.pixels == 0 ? std::nan("") : 0, spread = 0;  // nothing has no mean, as in TensorFlow
    for (int64_t block = 0; block < maps.blocks; block++) {
      center += double(parts[block * 2 * channels + channel]) * maps.PixelsOf(block) / maps.pixels;
    }
    for (int64_t block = 0; block < maps.blocks; block++) {
      const float* part = parts + block * 2 * channels + channel;
      const double distance = part[0] - center;
      spread += part[channels] + distance * distance * maps.PixelsOf(block);
    }
    mean[channel] = center;
    variance[channel] = std::max(spread / maps.pixels, 0.0);
  }
}

struct Normalization {
  const float *mean, *beta;
  std::vector<float> scale, inverse;  // inverse: 1 / √(variance + ε)
  float slope;

  Normalization(const float* mean, const float* variance, const Tensor& gamma, const Tensor& beta, float epsilon,
                float slope)
      : mean(mean), beta(Data(beta)), scale(gamma.NumElements()), inverse(gamma.NumElements()), slope(slope) {
    for (size_t i = 0; i < scale.size(); i++) {
      inverse[i] = 1 / std::sqrt(double(variance[i]) + epsilon);
      scale[i] = Data(gamma)[i] * inverse[i];
    }
  }
};

// A group of its channels, in registers.
template <int N>
struct Normalizer {
  Lanes mean[N], scale[N], beta[N];
  float slope;

  Normalizer(const Normalization& all, int64_t channel) : slope(all.slope) {
    for (int i = 0; i < N; i++) {
      mean[i] = Load(all.mean + channel + i * kLanes);
      scale[i] = Load(&all.scale[channel + i * kLanes]);
      beta[i] = Load(all.beta + channel + i * kLanes);
    }
  }
  Lanes Distance(const float* x, int i) const { return Load(x + i * kLanes) - mean[i]; }
  Lanes Normalized(Lanes distance, int i) const { return distance * scale[i] + beta[i]; }
  Lanes Activated(const float* x, int i) const {
    const Lanes normalized = Normalized(Distance(x, i), i);
    return Leaky(normalized, normalized, slope);
  }
};

// What the moments add to the gradient of x: with g the gradient of d · scale + beta,
// dx = scale · g − constant − d · linear (Ioffe & Szegedy 2015, arXiv:1502.03167, section 3).
struct Correction {
  std::vector<float> constant, linear;

  // From the sums over all pixels of g and of g · d, one after the other; gives the gradients of γ and β, too.
  Correction(const Normalization& norm, int64_t pixels, const double* sums, float* dgamma, float* dbeta)
      : constant(norm.scale.size()), linear(norm.scale.size()) {
    const double *of_g = sums, *of_gd = sums + norm.scale.size();
    for (size_t i = 0; i < constant.size(); i++) {
      dgamma[i] = of_gd[i] * norm.inverse[i];
      dbeta[i] = of_g[i];
      constant[i] = norm.scale[i] * of_g[i] / pixels;
      linear[i] = norm.scale[i] * of_gd[i] * norm.inverse[i] * norm.inverse[i] / pixels;
    }
  }
};

// With inputs x [batch, height, width, channels], gamma and beta [channels].
class NormalizedOp : public OpKernel {
 public:
  explicit NormalizedOp(OpKernelConstruction* construction) : OpKernel(construction) {
    OP_REQUIRES_OK(construction, construction->GetAttr("epsilon", &epsilon_));
    OP_REQUIRES_OK(construction, construction->GetAttr("slope", &slope_));
  }

 protected:
  static void RequireShapes(OpKernelContext* context) {
    const int64_t channels = Channels(Input(context, "x"));
    RequireShape(context, "x", {kAny, kPositive, kPositive, channels});
    RequireShape(context, "gamma", {channels});
    RequireShape(context, "beta", {channels});
    RequireLanes(context, channels);
  }

  // Of a gradient operation, which has two more inputs.
  static void RequireMoments(OpKernelContext* context, int64_t channels) {
    RequireShape(context, "mean", {channels});
    RequireShape(context, "variance", {channels});
  }

  // By the moments of x, which become outputs. Nothing, and the context failed, where there is no memory.
  std::optional<Normalization> Normalize(OpKernelContext* context, const Maps& maps) const {
    Tensor* mean = Allocate(context, "mean", {maps.channels});
    Tensor* variance = Allocate(context, "variance", {maps.channels});
    if (!context->status().ok()) return std::nullopt;
    Moments(context, maps, Data(Input(context, "x")), Data(mean), Data(variance));
    if (!context->status().ok()) return std::nullopt;
    return Normalization(Data(mean), Data(variance), Input(context, "gamma"), Input(context, "beta"), epsilon_, slope_);
  }

  // By the moments that are inputs.
  Normalization Normalize(OpKernelContext* context) const {
    return Normalization(Data(Input(context, "mean")), Data(Input(context, "variance")), Input(context, "gamma"),
                         Input(context, "beta"), epsilon_, slope_);
  }

  float epsilon_, slope_;
};

// x, gamma, beta → y, mean, variance
class NormalizedLeakyReluOp : public NormalizedOp {
 public:
  using NormalizedOp::NormalizedOp;

  void Compute(OpKernelContext* context) override {
    RequireShapes(context);
    if (!context->status().ok()) return;
    const Tensor& x = Input(context, "x");
    const Maps maps(x);
    const int64_t channels = maps.channels;
    Tensor* y = Allocate(context, "y", {x.dim_size(0), x.dim_size(1), x.dim_size(2), channels});
    const std::optional<Normalization> norm = Normalize(context, maps);
    if (!context->status().ok()) return;
    Parallel(context, maps.blocks, kBlock * channels, [&](int64_t first, int64_t last) {
      for (int64_t block = first; block < last; block++) {
        ForChannels<4>(channels, [&](auto width, int64_t channel) {
          constexpr int N = decltype(width)::value;
          const Normalizer<N> normalizer(*norm, channel);
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
    RequireShapes(context);
    if (!context->status().ok()) return;
    const Tensor &dy = Input(context, "dy"), &x = Input(context, "x");
    const Maps maps(x);
    const int64_t channels = maps.channels;
    RequireShape(context, "dy", {x.dim_size(0), x.dim_size(1), x.dim_size(2), channels});
    RequireMoments(context, channels);
    if (!context->status().ok()) return;
    Tensor* dx = nullptr;
    OP_REQUIRES_OK(context, context->forward_input_or_allocate_output({"dy"}, "dx", x.shape(), &dx));
    Tensor* dgamma = Allocate(context, "dgamma", {channels});
    Tensor* dbeta = Allocate(context, "dbeta", {channels});
    Tensor parts = Scratch(context, maps.blocks, 2 * channels);
    if (!context->status().ok()) return;
    const Normalization norm = Normalize(context);
    ForBlocks(context, maps, [&](auto width, int64_t block, int64_t channel, int64_t at) {
      Sums(Normalizer<decltype(width)::value>(norm, channel), Data(x) + at, Data(dy) + at, maps.PixelsOf(block),
           channels, Data(&parts) + block * 2 * channels + channel);
    });
    const Correction correction(norm, maps.pixels, AddUp(parts).data(), Data(dgamma), Data(dbeta));
    ForBlocks(context, maps, [&](auto width, int64_t block, int64_t channel, int64_t at) {
      Inputs(Normalizer<decltype(width)::value>(norm, channel), correction, channel, Data(x) + at, Data(dy) + at,
             maps.PixelsOf(block), channels, Data(dx) + at);
    });
  }

 private:
  // work(group's width, block, channel, where both begin in the maps)
  template <typename Work>
  static void ForBlocks(OpKernelContext* context, const Maps& maps, Work work) {
    Parallel(context, maps.blocks, 2 * kBlock * maps.channels, [&](int64_t first, int64_t last) {
      for (int64_t block = first; block < last; block++) {
        ForChannels<4>(maps.channels, [&](auto width, int64_t channel) {
          work(width, block, channel, block * kBlock * maps.channels + channel);
        });
      }
    });
  }

  // The sums of g and of g · d over pixels.
  template <int N>
  static void Sums(const Normalizer<N>& normalizer, const float* x, const float* dy, int64_t pixels, int64_t channels,
                   float* sums) {
    Lanes of_g[N] = {}, of_gd[N] = {};
    for (int64_t pixel = 0; pixel < pixels; pixel++, x += channels, dy += channels) {
      for (int i = 0; i < N; i++) {
        const Lanes distance = normalizer.Distance(x, i);
        const Lanes g = Leaky(Load(dy + i * kLanes), normalizer.Normalized(distance, i), normalizer.slope);
        of_g[i] += g;
        of_gd[i] += g * distance;
      }
    }
    for (int i = 0; i < N; i++) {
      Store(sums + i * kLanes, of_g[i]);
      Store(sums + channels + i * kLanes, of_gd[i]);
    }
  }

  // The gradient of x; it may be where dy is.
  template <int N>
  static void Inputs(const Normalizer<N>& normalizer, const Correction& correction, int64_t channel, const float* x,
                     const float* dy, int64_t pixels, int64_t channels, float* dx) {
    Lanes constant[N], linear[N];
    for (int i = 0; i < N; i++) {
      constant[i] = Load(&correction.constant[channel + i * kLanes]);
      linear[i] = Load(&correction.linear[channel + i * kLanes]);
    }
    for (int64_t pixel = 0; pixel < pixels; pixel++, x += channels, dy += channels, dx += channels) {
      for (int i = 0; i < N; i++) {
        const Lanes distance = normalizer.Distance(x, i);
        const Lanes g = Leaky(Load(dy + i * kLanes), normalizer.Normalized(distance, i), normalizer.slope);
        Store(dx + i * kLanes, g * normalizer.scale[i] - constant[i] - distance * linear[i]);
      }
    }
  }
};

}  // namespace vae_runner
