// Transposed 3×3 convolution of any stride; also the gradient of a convolution with respect to its inputs.
//
// Tap (row, column) of the kernel leads from output (y, x) to pixel
// ((y + top − row) / stride, (x + left − column) / stride) of the maps, where both are whole. So the outputs of a row
// that are a stride apart take the same taps, and are computed together.

#pragma once

#include <algorithm>
#include <utility>

#include "images.h"

namespace vae_runner {

// The taps of a row of outputs that are a stride apart: for each, the first one's map pixel, and the weights.
struct RowTaps {
  int count = 0;
  const float *maps[kSide * kSide], *weights[kSide * kSide];
};

// For kPixels outputs of such a row, from number `first` on, and N · kLanes of their channels: the sums over taps and
// filters. They go to `to`, `step` apart.
template <int kPixels, int N>
void TransposeTile(const RowTaps& taps, int64_t first, int64_t channel, int64_t filters, int64_t channels, float* to,
                   int64_t step) {
  Lanes sum[kPixels][N] = {};
  for (int tap = 0; tap < taps.count; tap++) {
    const float* map = taps.maps[tap] + first * filters;
    const float* weight = taps.weights[tap] + channel;
    for (int64_t filter = 0; filter < filters; filter++, weight += channels) {
      Lanes of_filter[N];
      for (int i = 0; i < N; i++) of_filter[i] = Load(weight + i * kLanes);
      for (int pixel = 0; pixel < kPixels; pixel++) {
        for (int i = 0; i < N; i++) sum[pixel][i] += map[pixel * filters + filter] * of_filter[i];
      }
    }
  }
  for (int pixel = 0; pixel < kPixels; pixel++) {
    for (int i = 0; i < N; i++) Store(to + pixel * step + i * kLanes, sum[pixel][i]);
  }
}

// The same for a number of pixels that is known only now: 1 … as many as the sequence is long.
template <int N, int... kBefore, typename... Arguments>
void TransposeTileOf(int64_t pixels, std::integer_sequence<int, kBefore...>, const Arguments&... arguments) {
  ((pixels == kBefore + 1 ? TransposeTile<kBefore + 1, N>(arguments...) : void()), ...);
}

// maps [batch, map height, map width, filters], kernel [3, 3, channels, filters]
// → outputs [batch, height, width, channels]
class Conv2DTransposeOp : public StridedOp {
 public:
  explicit Conv2DTransposeOp(OpKernelConstruction* construction) : StridedOp(construction) {
    OP_REQUIRES_OK(construction, construction->GetAttr("height", &height_));
    OP_REQUIRES_OK(construction, construction->GetAttr("width", &width_));
  }

  void Compute(OpKernelContext* context) override {
    const Tensor &maps = Input(context, "maps"), &kernel = Input(context, "kernel");
    RequireShape(context, "maps", {kAny, StridesIn(height_), StridesIn(width_), kPositive});
    RequireShape(context, "kernel", {kSide, kSide, kPositive, Channels(maps)});
    if (!context->status().ok()) return;
    const Sizes sizes(maps, kernel, height_, width_, stride_);
    RequireLanes(context, sizes.channels);
    Tensor* outputs = Allocate(context, "outputs", {sizes.images, height_, width_, sizes.channels});
    Tensor weights = Scratch(context, kSide * kSide, sizes.filters * sizes.channels);
    if (!context->status().ok()) return;
    Transpose(Data(kernel), sizes, Data(&weights));
    const int64_t bands_each = (sizes.height + kRows - 1) / kRows;
    const int64_t cost = kRows * sizes.width * sizes.filters * sizes.channels / kLanes / stride_ / stride_;
    Parallel(context, sizes.images * bands_each, cost, [&](int64_t first, int64_t last) {
      std::vector<float> padded((kRows + kSide - 1) * sizes.PaddedLength());
      for (int64_t band = first; band < last; band++) {
        const int64_t image = band / bands_each, row = band % bands_each * kRows;
        Rows(sizes, Data(maps) + image * sizes.MapLength(), Data(weights), row, padded,
             Data(outputs) + image * sizes.height * sizes.width * sizes.channels);
      }
    });
  }

 private:
  int64_t StridesIn(int64_t side) const { return (side + stride_ - 1) / stride_; }

  static constexpr int64_t kRows = 8;  // of outputs, computed together

  struct Sizes {
    int64_t images, height, width, channels;  // of the outputs
    int64_t map_height, map_width, filters;
    int64_t stride, top, left;
    Sizes(const Tensor& maps, const Tensor& kernel, int64_t height, int64_t width, int64_t stride)
        : images(maps.dim_size(0)),
          height(height),
          width(width),
          channels(kernel.dim_size(2)),
          map_height(maps.dim_size(1)),
          map_width(maps.dim_size(2)),
          filters(kernel.dim_size(3)),
          stride(stride),
          top(PaddingBefore(height, map_height, stride)),
          left(PaddingBefore(width, map_width, stride)) {}
    int64_t RowLength() const { return map_width * filters; }
    int64_t MapLength() const { return map_height * RowLength(); }
    // With margins of zeros, which taps reach into.
    int64_t PaddedLength() const { return RowLength() + 2 * kSide * filters; }
  };

  // The kernel as [3, 3, filters, channels]: the channels are the lanes here.
  static void Transpose(const float* kernel, const Sizes& sizes, float* transposed) {
    for (int64_t tap = 0; tap < kSide * kSide; tap++, transposed += sizes.filters * sizes.channels) {
      for (int64_t channel = 0; channel < sizes.channels; channel++) {
        for (int64_t filter = 0; filter < sizes.filters; filter++) {
          transposed[filter * sizes.channels + channel] = *kernel++;
        }
      }
    }
  }

  // Rows `row` … `row` + kRows of one image's outputs.
  static void Rows(const Sizes& sizes, const float* maps, const float* weights, int64_t row, std::vector<float>& padded,
                   float* outputs) {
    const int64_t end = std::min(row + kRows, sizes.height);
    const int64_t first = std::max<int64_t>(row + sizes.top - kSide + 1, 0) / sizes.stride;
    const int64_t last = std::min((end - 1 + sizes.top) / sizes.stride, sizes.map_height - 1);
    for (int64_t y = first; y <= last; y++) {
      std::copy_n(maps + y * sizes.RowLength(), sizes.RowLength(),
                  &padded[(y - first) * sizes.PaddedLength() + kSide * sizes.filters]);
    }
    for (int64_t y = row; y < end; y++) {
      for (int64_t x = 0; x < std::min(sizes.stride, sizes.width); x++) {
        Row(sizes, TapsOf(sizes, padded.data(), first, weights, y, x), x, outputs + y * sizes.width * sizes.channels);
      }
    }
  }

  // Of outputs (y, x), (y, x + stride), …; the padded rows begin with row `first` of the maps.
  static RowTaps TapsOf(const Sizes& sizes, const float* padded, int64_t first, const float* weights, int64_t y,
                        int64_t x) {
    RowTaps taps;
    for (int64_t row = 0; row < kSide; row++) {
      const int64_t down = y + sizes.top - row;
      if (down < 0 || down % sizes.stride != 0 || down / sizes.stride >= sizes.map_height) continue;
      for (int64_t column = 0; column < kSide; column++) {
        const int64_t across = x + sizes.left - column + kSide * sizes.stride;  // positive, from the margin's beginning
        if (across % sizes.stride != 0) continue;
        const float* line = padded + (down / sizes.stride - first) * sizes.PaddedLength();
        taps.maps[taps.count] = line + across / sizes.stride * sizes.filters;
        taps.weights[taps.count++] = weights + (row * kSide + column) * sizes.filters * sizes.channels;
      }
    }
    return taps;
  }

  // Outputs x, x + stride, … of a row that begins at `to`.
  static void Row(const Sizes& sizes, const RowTaps& taps, int64_t x, float* to) {
    constexpr int kMost = 8;  // pixels: enough for sums not to wait for each other, few enough for the registers
    const int64_t count = (sizes.width - x + sizes.stride - 1) / sizes.stride;
    const int64_t tiles = (count + kMost - 1) / kMost;
    ForChannels<2>(sizes.channels, [&](auto width, int64_t channel) {
      for (int64_t tile = 0; tile < tiles; tile++) {
        const int64_t first = count * tile / tiles, last = count * (tile + 1) / tiles;
        TransposeTileOf<decltype(width)::value>(
            last - first, std::make_integer_sequence<int, kMost>(), taps, first, channel, sizes.filters, sizes.channels,
            to + (x + first * sizes.stride) * sizes.channels + channel, sizes.stride * sizes.channels);
      }
    });
  }

  int height_, width_;
};

}  // namespace vae_runner
