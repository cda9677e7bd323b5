// Normalisation, LeakyReLU and the transposed convolution of stride 1 that makes images, without the maps between them.

#pragma once

#include "images.h"
#include "normalization.h"

namespace vae_runner {

// work(Width<channels>()) for images of one or three channels.
template <typename Work>
void ForImages(int64_t channels, Work work) {
  if (channels == 1) {
    work(Width<1>());
  } else {
    work(Width<3>());
  }
}

// The last three rows of maps, activated, with a pixel of zeros at each end.
class ActivatedRows {
 public:
  ActivatedRows(int64_t width, int64_t channels)
      : width(width), channels(channels), rows_(kSide * (width + 2) * channels), sums_(width * kLanes) {}

  // Row number `row` of an image's maps, whose inputs are at x; none: a row of zeros.
  void Put(int64_t row, const float* x, const Normalization& norm) {
    const int64_t length = width * channels;
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

  // Row y of images. A pixel (y, x) of the maps goes to (y + row − 1, x + column − 1), so that (y, x) of the images
  // comes from (y + 1 − row, x + 1 − column).
  template <int kChannels>
  void Transposed(int64_t y, Width<kChannels>, const float* kernel, const float* bias, float* to) {
    const float* rows[kSide] = {At(y + 1), At(y), At(y - 1)};
    for (int image_channel = 0; image_channel < kChannels; image_channel++) {
      std::fill(sums_.begin(), sums_.end(), 0.0f);
      ForChannels<2>(channels, [&](auto group, int64_t channel) {
        AddProducts<decltype(group)::value>(rows, kernel + image_channel * channels + channel, kChannels * channels,
                                            channel);
      });
      for (int64_t x = 0; x < width; x++) {
        to[x * kChannels + image_channel] = Sum(Load(&sums_[x * kLanes])) + bias[image_channel];
      }
    }
  }

  const int64_t width, channels;

 private:
  float* At(int64_t row) { return &rows_[(row + kSide) % kSide * (width + 2) * channels]; }

  // Adds what N · kLanes channels make of each pixel, lane by lane; the kernel's taps are a step apart.
  template <int N>
  void AddProducts(const float* const* rows, const float* kernel, int64_t step, int64_t channel) {
    Lanes weight[kSide][kSide][N];
    for (int tap = 0; tap < kSide * kSide; tap++) {
      for (int i = 0; i < N; i++) weight[tap / kSide][tap % kSide][i] = Load(kernel + tap * step + i * kLanes);
    }
    for (int64_t x = 0; x < width; x++) {
      float* so_far = &sums_[x * kLanes];
      Lanes sum[kSide] = {Load(so_far)};  // one a column, so that they need not wait for each other
      for (int row = 0; row < kSide; row++) {
        for (int column = 0; column < kSide; column++) {
          const float* at = rows[row] + (x + 2 - column) * channels + channel;
          for (int i = 0; i < N; i++) sum[column] += Load(at + i * kLanes) * weight[row][column][i];
        }
      }
      Store(so_far, sum[0] + sum[1] + sum[2]);
    }
  }

  std::vector<float> rows_, sums_;
};

// With an input kernel [3, 3, image channels, channels], too.
class ImageHeadBaseOp : public NormalizedOp {
 public:
  using NormalizedOp::NormalizedOp;

 protected:
  static void RequireShapes(OpKernelContext* context) {
    NormalizedOp::RequireShapes(context);
    const Tensor& kernel = Input(context, "kernel");
    const bool of_images = kernel.dims() == 4 && (kernel.dim_size(2) == 1 || kernel.dim_size(2) == 3);
    OP_REQUIRES(context, of_images,
                Invalid("kernel ", kernel.shape().DebugString(), " must be for images of 1 or 3 channels"));
    RequireShape(context, "kernel", {kSide, kSide, kernel.dim_size(2), Channels(Input(context, "x"))});
  }

  // What the kernel sees of the images.
  static Window WindowOf(const Tensor& x, const Tensor& kernel) {
    return Window(x.dim_size(0), x.dim_size(1), x.dim_size(2), kernel.dim_size(2), 1);
  }
};

// x, gamma, beta, kernel, bias [image channels] → images [batch, height, width, image channels], mean, variance
class ImageHeadOp : public ImageHeadBaseOp {
 public:
  using ImageHeadBaseOp::ImageHeadBaseOp;

  void Compute(OpKernelContext* context) override {
    RequireShapes(context);
    if (!context->status().ok()) return;
    const Tensor &x = Input(context, "x"), &kernel = Input(context, "kernel"), &bias = Input(context, "bias");
    const Maps maps(x);
    const Window window = WindowOf(x, kernel);
    RequireShape(context, "bias", {window.image_channels});
    Tensor* images = Allocate(context, "images", {window.images, window.height, window.width, window.image_channels});
    if (!context->status().ok()) return;
    const std::optional<Normalization> norm = Normalize(context, maps);
    if (!context->status().ok()) return;
    Parallel(context, window.bands, 2 * window.Pixels() * maps.channels, [&](int64_t first, int64_t last) {
      ActivatedRows rows(window.width, maps.channels);
      for (int64_t band = first; band < last; band++) {
        Band(rows, window, band, *norm, Data(x), Data(kernel), Data(bias), Data(images));
      }
    });
  }

 private:
  static void Band(ActivatedRows& rows, const Window& window, int64_t band, const Normalization& norm, const float* x,
                   const float* kernel, const float* bias, float* images) {
    const int64_t start = window.ImageOf(band) * window.height;
    for (int64_t row = window.FirstRow(band) - 1; row <= window.LastRow(band); row++) {
      const bool inside = row >= 0 && row < window.height;
      rows.Put(row, inside ? x + (start + row) * window.width * rows.channels : nullptr, norm);
      if (row > window.FirstRow(band)) {
        float* to = images + (start + row - 1) * window.width * window.image_channels;
        ForImages(window.image_channels, [&](auto depth) { rows.Transposed(row - 1, depth, kernel, bias, to); });
      }
    }
  }
};

// dimages, x, gamma, beta, kernel, mean, variance → dx, dgamma, dbeta, dkernel, dbias
class ImageHeadGradOp : public ImageHeadBaseOp {
 public:
  using ImageHeadBaseOp::ImageHeadBaseOp;

  void Compute(OpKernelContext* context) override {
    RequireShapes(context);
    if (!context->status().ok()) return;
    const Tensor &dimages = Input(context, "dimages"), &x = Input(context, "x"), &kernel = Input(context, "kernel");
    const Window window = WindowOf(x, kernel);
    const Maps maps(x);
    const int64_t channels = maps.channels, taps = kernel.NumElements(), size = taps + 2 * channels;
    RequireShape(context, "dimages", {window.images, window.height, window.width, window.image_channels});
    RequireMoments(context, channels);
    Tensor* dx = Allocate(context, "dx", {window.images, window.height, window.width, channels});
    Tensor* dgamma = Allocate(context, "dgamma", {channels});
    Tensor* dbeta = Allocate(context, "dbeta", {channels});
    Tensor* dkernel = Allocate(context, "dkernel", {kSide, kSide, window.image_channels, channels});
    Tensor* dbias = Allocate(context, "dbias", {window.image_channels});
    Tensor parts = Scratch(context, window.bands, size);
    if (!context->status().ok()) return;
    const Normalization norm = Normalize(context);
    ForImages(window.image_channels, [&](auto depth) {
      constexpr int kChannels = decltype(depth)::value;
      const auto for_groups = [&](auto work) {
        ForBands(context, window, Data(dimages), 2 * kChannels * channels, [&](const Padded& padded, int64_t band) {
          ForChannels<1>(channels, [&](auto, int64_t channel) {
            work(padded, band, channel, Normalizer<1>(norm, channel),
                 Taps<kChannels, 1>(Data(kernel), channels, channel));
          });
        });
      };
      for_groups([&](const Padded& padded, int64_t band, int64_t channel, const auto& normalizer, const auto& taps) {
        Sums(padded, band, normalizer, taps, Data(x) + channel, channels, Data(&parts) + band * size + channel);
      });
      const std::vector<double> total = AddUp(parts);
      std::copy(total.begin(), total.begin() + taps, Data(dkernel));
      const Correction correction(norm, maps.pixels, &total[taps], Data(dgamma), Data(dbeta));
      for_groups([&](const Padded& padded, int64_t band, int64_t channel, const auto& normalizer, const auto& taps) {
        Inputs(padded, band, normalizer, taps, Load(&correction.constant[channel]), Load(&correction.linear[channel]),
               Data(x) + channel, channels, Data(dx) + channel);
      });
    });
    SumOfImages(context, window, Data(dimages), Data(dbias));
  }

 private:
  // The sums of one band for kLanes channels: of the kernel's taps, of g and of g · d.
  template <int kChannels>
  static void Sums(const Padded& padded, int64_t band, const Normalizer<1>& normalizer, const Taps<kChannels, 1>& taps,
                   const float* x, int64_t channels, float* sums) {
    constexpr int kCount = Taps<kChannels, 1>::kCount;
    Lanes of_tap[kCount] = {}, of_g = {}, of_gd = {};
    padded.ForPixels(band, channels, [&](const float* corner, int64_t at) {
      const Lanes distance = normalizer.Distance(x + at, 0);
      const Lanes normalized = normalizer.Normalized(distance, 0);
      const Lanes activated = Leaky(normalized, normalized, normalizer.slope);
      const Lanes g = Leaky(taps.Product(corner, padded.row_length(), 0), normalized, normalizer.slope);
      for (int tap = 0; tap < kCount; tap++) {
        of_tap[tap] += Tap<kChannels>(corner, padded.row_length(), tap) * activated;
      }
      of_g += g;
      of_gd += g * distance;
    });
    for (int tap = 0; tap < kCount; tap++) Store(sums + tap * channels, of_tap[tap]);
    Store(sums + kCount * channels, of_g);
    Store(sums + (kCount + 1) * channels, of_gd);
  }

  // The gradient of x in one band, for kLanes channels.
  template <int kChannels>
  static void Inputs(const Padded& padded, int64_t band, const Normalizer<1>& normalizer,
                     const Taps<kChannels, 1>& taps, Lanes constant, Lanes linear, const float* x, int64_t channels,
                     float* dx) {
    padded.ForPixels(band, channels, [&](const float* corner, int64_t at) {
      const Lanes distance = normalizer.Distance(x + at, 0);
      const Lanes product = taps.Product(corner, padded.row_length(), 0);
      const Lanes g = Leaky(product, normalizer.Normalized(distance, 0), normalizer.slope);
      Store(dx + at, g * normalizer.scale[0] - constant - distance * linear);
    });
  }

  static void SumOfImages(OpKernelContext* context, const Window& window, const float* images, float* sums) {
    const int64_t channels = window.image_channels, pixels = window.height * window.width;
    Tensor parts = Scratch(context, window.images, channels);
    if (!context->status().ok()) return;
    Parallel(context, window.images, 4 * pixels * channels, [&](int64_t first, int64_t last) {
      for (int64_t image = first; image < last; image++) {
        for (int64_t channel = 0; channel < channels; channel++) {
          const float* from = images + image * pixels * channels + channel;
          double sum = 0;
          for (int64_t pixel = 0; pixel < pixels; pixel++) sum += from[pixel * channels];
          Data(&parts)[image * channels + channel] = sum;
        }
      }
    });
    const std::vector<double> total = AddUp(parts);
    std::copy(total.begin(), total.end(), sums);
  }
};

}  // namespace vae_runner
