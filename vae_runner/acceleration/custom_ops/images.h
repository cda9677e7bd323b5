// 3×3 kernels between images and maps: what they see of an image, and the first block of grey ones.

#pragma once

#include <algorithm>

#include "lanes.h"

namespace vae_runner {

// Where the kernel stands on an image for each pixel of the maps, with "same" padding. Rows of maps are computed in
// bands of about kBlock pixels.
struct Window {
  int64_t images, height, width, image_channels;
  int64_t map_height, map_width;
  int64_t stride, top, left;
  int64_t band, bands_each, bands;

  Window(int64_t images, int64_t height, int64_t width, int64_t image_channels, int64_t stride)
      : images(images),
        height(height),
        width(width),
        image_channels(image_channels),
        map_height((height + stride - 1) / stride),
        map_width((width + stride - 1) / stride),
        stride(stride),
        top(PaddingBefore(height, map_height, stride)),
        left(PaddingBefore(width, map_width, stride)),
        band(std::clamp<int64_t>(kBlock / map_width, 1, map_height)),
        bands_each((map_height + band - 1) / band),
        bands(images * bands_each) {}
  Window(const Tensor& images, int64_t stride)
      : Window(images.dim_size(0), images.dim_size(1), images.dim_size(2), images.dim_size(3), stride) {}

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
    for (int64_t row = 0; row < int64_t(rows_.size()) / row_length_; row++) {
      float* to = &rows_[row * row_length_];
      const int64_t y = first + row;
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

// work(padded, band) on TensorFlow's threads, with the rows that the band sees.
template <typename Work>
void ForBands(OpKernelContext* context, const Window& window, const float* images, int64_t cost_of_pixel, Work work) {
  Parallel(context, window.bands, window.Pixels() * cost_of_pixel, [&](int64_t first, int64_t last) {
    Padded padded(window, images);
    for (int64_t band = first; band < last; band++) {
      padded.Fill(band);
      work(padded, band);
    }
  });
}

// One number of the patch at `corner`: tap 0 … 9 · kChannels, in the order of a kernel's rows, columns and channels.
template <int kChannels>
inline float Tap(const float* corner, int64_t row_length, int tap) {
  return corner[tap / (kSide * kChannels) * row_length + tap % (kSide * kChannels)];
}

// N · kLanes of the channels of a kernel [3, 3, kChannels, channels], in registers.
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

class StridedOp : public OpKernel {
 public:
  explicit StridedOp(OpKernelConstruction* construction) : OpKernel(construction) {
    OP_REQUIRES_OK(construction, construction->GetAttr("stride", &stride_));
  }

 protected:
  int stride_ = 1;
};

// images [batch, height, width, 1], pivot [] → sums [10, 10] over all patches p of the products of (p − pivot, 1)
class PatchSumsOp : public StridedOp {
 public:
  using StridedOp::StridedOp;

  void Compute(OpKernelContext* context) override {
    constexpr int kCount = kSide * kSide, kGroups = kCount / kLanes + 1, kWidth = kGroups * kLanes;
    const Tensor& images = Input(context, "images");
    RequireShape(context, "images", {kAny, kPositive, kPositive, 1});
    RequireShape(context, "pivot", {});
    if (!context->status().ok()) return;
    const float pivot = Data(Input(context, "pivot"))[0];
    const Window window(images, stride_);
    Tensor* sums = Allocate(context, "sums", {kCount + 1, kCount + 1});
    Tensor parts = Scratch(context, window.bands, (kCount + 1) * kWidth);
    if (!context->status().ok()) return;
    ForBands(context, window, Data(images), 40, [&](const Padded& padded, int64_t band) {
      Lanes sum[kCount + 1][kGroups] = {};
      padded.ForPixels(band, 0, [&](const float* corner, int64_t) {
        Lanes patch[kGroups] = {};
        const auto at = [&](int tap) -> auto& { return patch[tap / kLanes]; };
        for (int tap = 0; tap < kCount; tap++) {
          at(tap)[tap % kLanes] = Tap<1>(corner, padded.row_length(), tap) - pivot;
        }
        at(kCount)[kCount % kLanes] = 1;
        for (int i = 0; i <= kCount; i++) {
          for (int group = 0; group < kGroups; group++) sum[i][group] += at(i)[i % kLanes] * patch[group];
        }
      });
      float* part = Data(&parts) + band * (kCount + 1) * kWidth;
      for (int i = 0; i <= kCount; i++) {
        for (int group = 0; group < kGroups; group++) Store(part + i * kWidth + group * kLanes, sum[i][group]);
      }
    });
    const std::vector<double> total = AddUp(parts);
    for (int i = 0; i <= kCount; i++) {
      std::copy(&total[i * kWidth], &total[i * kWidth] + kCount + 1, Data(sums) + i * (kCount + 1));
    }
  }
};

// With inputs images [batch, height, width, 1], kernel [3, 3, 1, channels] and bias [channels].
class GreyBlockOp : public StridedOp {
 public:
  explicit GreyBlockOp(OpKernelConstruction* construction) : StridedOp(construction) {
    OP_REQUIRES_OK(construction, construction->GetAttr("slope", &slope_));
  }

 protected:
  static void RequireShapes(OpKernelContext* context) {
    const int64_t channels = Channels(Input(context, "kernel"));
    RequireShape(context, "images", {kAny, kPositive, kPositive, 1});
    RequireShape(context, "kernel", {kSide, kSide, 1, channels});
    RequireShape(context, "bias", {channels});
    RequireLanes(context, channels);
  }

  float slope_;
};

// images, kernel, bias → maps [batch, map height, map width, channels]: leaky_relu(convolution + bias)
class ConvolvedGreyOp : public GreyBlockOp {
 public:
  using GreyBlockOp::GreyBlockOp;

  void Compute(OpKernelContext* context) override {
    RequireShapes(context);
    if (!context->status().ok()) return;
    const Tensor &images = Input(context, "images"), &kernel = Input(context, "kernel"), &bias = Input(context, "bias");
    const Window window(images, stride_);
    const int64_t channels = Channels(bias);
    Tensor* maps = Allocate(context, "maps", {window.images, window.map_height, window.map_width, channels});
    if (!context->status().ok()) return;
    ForBands(context, window, Data(images), channels, [&](const Padded& padded, int64_t band) {
      ForChannels<2>(channels, [&](auto width, int64_t channel) {
        constexpr int N = decltype(width)::value;
        const Taps<1, N> taps(Data(kernel), channels, channel);
        const float* offset = Data(bias) + channel;
        float* to = Data(maps) + channel;
        padded.ForPixels(band, channels, [&](const float* corner, int64_t at) {
          for (int i = 0; i < N; i++) {
            const Lanes sum = taps.Product(corner, padded.row_length(), i) + Load(offset + i * kLanes);
            Store(to + at + i * kLanes, Leaky(sum, sum, slope_));
          }
        });
      });
    });
  }
};

// dmaps, images, kernel, bias → dkernel, dbias. The side of LeakyReLU's bend that a pixel is on costs less to compute
// again than to read.
class ConvolvedGreyGradOp : public GreyBlockOp {
 public:
  using GreyBlockOp::GreyBlockOp;

  void Compute(OpKernelContext* context) override {
    RequireShapes(context);
    if (!context->status().ok()) return;
    const Tensor &dmaps = Input(context, "dmaps"), &images = Input(context, "images");
    const Tensor &kernel = Input(context, "kernel"), &bias = Input(context, "bias");
    const Window window(images, stride_);
    const int64_t channels = Channels(bias), size = kernel.NumElements() + channels;
    RequireShape(context, "dmaps", {window.images, window.map_height, window.map_width, channels});
    Tensor* dkernel = Allocate(context, "dkernel", {kSide, kSide, 1, channels});
    Tensor* dbias = Allocate(context, "dbias", {channels});
    Tensor parts = Scratch(context, window.bands, size);
    if (!context->status().ok()) return;
    ForBands(context, window, Data(images), 2 * channels, [&](const Padded& padded, int64_t band) {
      ForChannels<1>(channels, [&](auto, int64_t channel) {
        Sums(padded, band, Data(dmaps) + channel, Taps<1, 1>(Data(kernel), channels, channel),
             Load(Data(bias) + channel), channels, Data(&parts) + band * size + channel);
      });
    });
    const std::vector<double> total = AddUp(parts);
    std::copy(total.begin(), total.end() - channels, Data(dkernel));
    std::copy(total.end() - channels, total.end(), Data(dbias));
  }

 private:
  // The sums of one band for kLanes channels: of the kernel's taps, and of the bias.
  void Sums(const Padded& padded, int64_t band, const float* dmaps, const Taps<1, 1>& taps, Lanes bias,
            int64_t channels, float* sums) {
    constexpr int kCount = kSide * kSide;
    Lanes of_tap[kCount] = {}, of_bias = {};
    padded.ForPixels(band, channels, [&](const float* corner, int64_t at) {
      const Lanes g = Leaky(Load(dmaps + at), taps.Product(corner, padded.row_length(), 0) + bias, slope_);
      for (int tap = 0; tap < kCount; tap++) of_tap[tap] += Tap<1>(corner, padded.row_length(), tap) * g;
      of_bias += g;
    });
    for (int tap = 0; tap < kCount; tap++) Store(sums + tap * channels, of_tap[tap]);
    Store(sums + kCount * channels, of_bias);
  }
};

}  // namespace vae_runner
