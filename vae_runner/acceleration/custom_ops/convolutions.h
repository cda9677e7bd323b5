// 3×3 convolutions of stride 1 and 2, and their gradients, by Winograd's algorithm along rows.
//
// The sum over the kernel's rows and the channels makes each of the algorithm's products one of matrices,
// [tiles, 3 · channels] by [3 · channels, filters]. Applied to columns as well it would save more multiplications, but
// its matrices would not fit into a processor's cache.

#pragma once

#include <algorithm>
#include <vector>

#include "images.h"
#include "matrix_sums.h"
#include "tiles.h"
#include "winograd.h"

namespace vae_runner {

constexpr int64_t kPanel = kMostGroups * kLanes;  // columns of a matrix of weights, as many as are multiplied together

// The weights of the products: for each row of the kernel a matrix [summed, columns], which is [channels, filters], or
// [filters, channels] where the convolution is transposed. Panels of its columns are contiguous, so that a product
// reads them in order.
template <int kStride>
class Weights {
  using Winograd = Algorithm<kStride>;

 public:
  Weights(OpKernelContext* context, const Geometry& geometry, bool is_transposed)
      : summed_(is_transposed ? geometry.filters : geometry.channels),
        columns_(is_transposed ? geometry.channels : geometry.filters),
        memory_(Scratch(context, Winograd::kWeights, kSide * summed_ * columns_)) {
    if (!context->status().ok()) return;
    numbers_ = Data(&memory_);
    const float* kernel = Data(Input(context, "kernel"));  // [3, 3, channels, filters]
    const int64_t step = is_transposed ? 1 : columns_, column_step = is_transposed ? summed_ : 1;
    Parallel(context, kSide * summed_, columns_, [&](int64_t first, int64_t last) {
      for (int64_t at = first; at < last; at++) {
        const int64_t row = at / summed_, k = at % summed_;
        for (int64_t column = 0; column < columns_; column += kLanes) {
          Lanes w[kSide] = {}, g[Winograd::kWeights];
          for (int i = 0; i < kSide; i++) {
            const float* from = kernel + (row * kSide + i) * summed_ * columns_ + k * step + column * column_step;
            for (int lane = 0; lane < kLanes; lane++) w[i][lane] = from[lane * column_step];
          }
          Winograd::FromKernel(w, g);
          for (int i = 0; i < Winograd::kWeights; i++) Store(At(i, row, k, column), g[i]);
        }
      }
    });
  }

  int64_t summed() const { return summed_; }
  int64_t columns() const { return columns_; }
  // A product's weights for a row of the kernel: the panel that begins with this column.
  const float* Panel(int product, int64_t row, int64_t column) const {
    return At(Winograd::kWeightOf[product], row, 0, column);
  }

 private:
  float* At(int weight, int64_t row, int64_t k, int64_t column) const {
    // After the last whole panel there are one of a half, one of a quarter, …, where they fit, as `ForChannels` has
    // them.
    int64_t panel = column / kPanel * kPanel, width = kPanel;
    while (panel + width > columns_ || panel + width <= column) {
      if (panel + width <= columns_) panel += width;
      width /= 2;
    }
    return numbers_ + kSide * summed_ * (weight * columns_ + panel) + (row * summed_ + k) * width + column - panel;
  }

  const int64_t summed_, columns_;
  Tensor memory_;
  float* numbers_ = nullptr;
};

// Multiplies a block's matrices by the weights, and adds up over the kernel's rows: left_of(product, image, row of the
// kernel) is what is multiplied, or null where that row does not count.
template <int kStride, typename LeftOf>
void MultiplyAll(const Block& block, const Weights<kStride>& weights, const Products<kStride>& out, LeftOf left_of) {
  std::vector<Term> terms;
  for (int product = 0; product < Algorithm<kStride>::kProducts; product++) {
    ForChannels<kMostGroups>(weights.columns(), [&](auto groups, int64_t column) {
      constexpr int kGroups = decltype(groups)::value;
      const Steps steps{weights.summed(), 1, kGroups * kLanes, weights.columns()};
      for (int64_t image = 0; image < block.images; image++) {
        terms.clear();
        for (int64_t row = 0; row < kSide; row++) {
          const float* left = left_of(product, image, row);
          if (left != nullptr) terms.push_back({left, weights.Panel(product, row, column), weights.summed()});
        }
        SumUp<false, kGroups>(block.rows * out.Tiles(product), terms, steps, out.Rows(product, image, 0, 0) + column);
      }
    });
  }
}

// What the operations have in common: stride 1 or 2, whole groups of channels and filters.
class ConvolutionOp : public StridedOp {
 public:
  explicit ConvolutionOp(OpKernelConstruction* construction) : StridedOp(construction) {
    OP_REQUIRES(construction, stride_ <= 2, Invalid("stride ", stride_, " must be 1 or 2"));
  }

 protected:
  static void RequireLanesOf(OpKernelContext* context, const Geometry& geometry) {
    RequireLanes(context, geometry.channels);
    RequireLanes(context, geometry.filters);
  }

  // work(Width<stride>())
  template <typename Work>
  void WithStride(Work work) const {
    if (stride_ == 1) {
      work(Width<1>());
    } else {
      work(Width<2>());
    }
  }

  // work(first, last) on TensorFlow's threads, for the pieces that the work on all blocks is divided into.
  template <typename Work>
  static void ForPieces(OpKernelContext* context, const Geometry& geometry, const Blocks& blocks, int64_t pieces,
                        Work work) {
    const int64_t tiles = blocks.Count() * blocks.MostImages() * blocks.MostRows() * geometry.tiles;
    Parallel(context, pieces, tiles * geometry.channels * geometry.filters / pieces, work);
  }
};

// images [batch, height, width, channels], kernel [3, 3, channels, filters]
// → maps [batch, map height, map width, filters]
class Conv2DOp : public ConvolutionOp {
 public:
  using ConvolutionOp::ConvolutionOp;

  void Compute(OpKernelContext* context) override {
    const Tensor &images = Input(context, "images"), &kernel = Input(context, "kernel");
    RequireShape(context, "images", {kAny, kPositive, kPositive, kPositive});
    if (!context->status().ok()) return;
    RequireShape(context, "kernel", {kSide, kSide, Channels(images), kPositive});
    if (!context->status().ok()) return;
    const Geometry geometry(images.shape(), Channels(kernel), stride_);
    RequireLanesOf(context, geometry);
    if (!context->status().ok()) return;
    Tensor* maps =
        Allocate(context, "maps", {geometry.images, geometry.map_height, geometry.map_width, geometry.filters});
    if (!context->status().ok() || geometry.images == 0) return;
    WithStride([&](auto stride) {
      constexpr int kStride = decltype(stride)::value;
      const Weights<kStride> weights(context, geometry, false);
      if (!context->status().ok()) return;
      const Blocks blocks(geometry, 0, geometry.map_height);
      ForPieces(context, geometry, blocks, blocks.Count(), [&](int64_t first, int64_t last) {
        const Transforms<kStride> transforms(geometry);
        const Products<kStride> inputs(Workspace::kInputs, geometry, blocks, kStride, geometry.channels);
        const Products<kStride> outputs(Workspace::kOutputs, geometry, blocks, 1, geometry.filters);
        for (int64_t number = first; number < last; number++) {
          const Block block = blocks[number];
          for (int phase = 0; phase < kStride; phase++) transforms.FromImages(block, phase, Data(images), inputs);
          MultiplyAll(block, weights, outputs, [&](int product, int64_t image, int64_t row) {
            return inputs.Rows(product, image, row % kStride, row / kStride);
          });
          transforms.ToMaps(block, outputs, Data(maps));
        }
      });
    });
  }
};

// maps [batch, map height, map width, filters], kernel [3, 3, channels, filters]
// → images [batch, height, width, channels]
class Conv2DTransposeOp : public ConvolutionOp {
 public:
  explicit Conv2DTransposeOp(OpKernelConstruction* construction) : ConvolutionOp(construction) {
    OP_REQUIRES_OK(construction, construction->GetAttr("height", &height_));
    OP_REQUIRES_OK(construction, construction->GetAttr("width", &width_));
  }

  void Compute(OpKernelContext* context) override {
    const Tensor &maps = Input(context, "maps"), &kernel = Input(context, "kernel");
    RequireShape(context, "maps", {kAny, StridesIn(height_), StridesIn(width_), kPositive});
    RequireShape(context, "kernel", {kSide, kSide, kPositive, Channels(maps)});
    if (!context->status().ok()) return;
    RequireLanes(context, Channels(maps));
    RequireLanes(context, kernel.dim_size(2));
    if (!context->status().ok()) return;
    Tensor* images = Allocate(context, "images", {maps.dim_size(0), height_, width_, kernel.dim_size(2)});
    if (!context->status().ok() || maps.dim_size(0) == 0) return;
    const Geometry geometry(images->shape(), Channels(maps), stride_);
    WithStride([&](auto stride) {
      constexpr int kStride = decltype(stride)::value;
      const Weights<kStride> weights(context, geometry, true);
      if (!context->status().ok()) return;
      constexpr int64_t kRowsAbove = (kSide - 1) / kStride;  // of maps, whose kernels reach into a block
      const int64_t first_row = geometry.top / kStride, last_row = (geometry.height - 1 + geometry.top) / kStride;
      const Blocks blocks(geometry, first_row, last_row - first_row + 1);
      ForPieces(context, geometry, blocks, blocks.Count(), [&](int64_t first, int64_t last) {
        const Transforms<kStride> transforms(geometry);
        const Products<kStride> inputs(Workspace::kInputs, geometry, blocks, 1, geometry.filters);
        const Products<kStride> outputs(Workspace::kOutputs, geometry, blocks, 1, geometry.channels);
        for (int64_t number = first; number < last; number++) {
          const Block block = blocks[number];
          transforms.FromMaps(block, kRowsAbove, Data(maps), inputs);
          for (int phase = 0; phase < kStride; phase++) {
            MultiplyAll(block, weights, outputs, [&](int product, int64_t image, int64_t row) {
              return row % kStride == phase ? inputs.Rows(product, image, 0, kRowsAbove - row / kStride) : nullptr;
            });
            transforms.ToImages(block, phase, outputs, Data(images));
          }
        }
      });
    });
  }

 private:
  int64_t StridesIn(int64_t side) const { return (side + stride_ - 1) / stride_; }

  int height_ = 1, width_ = 1;
};

// images [batch, height, width, channels], dmaps [batch, map height, map width, filters]
// → dkernel [3, 3, channels, filters]
//
// Each part of the blocks is added up in float32, and the parts in double precision. Where the kernel is too large for
// many parts, the filters are divided into bands.
class Conv2DKernelGradOp : public ConvolutionOp {
 public:
  using ConvolutionOp::ConvolutionOp;

  void Compute(OpKernelContext* context) override {
    const Tensor &images = Input(context, "images"), &dmaps = Input(context, "dmaps");
    RequireShape(context, "images", {kAny, kPositive, kPositive, kPositive});
    if (!context->status().ok()) return;
    const Geometry geometry(images.shape(), Channels(dmaps), stride_);
    RequireShape(context, "dmaps", {geometry.images, geometry.map_height, geometry.map_width, kPositive});
    RequireLanesOf(context, geometry);
    if (!context->status().ok()) return;
    Tensor* dkernel = Allocate(context, "dkernel", {kSide, kSide, geometry.channels, geometry.filters});
    if (!context->status().ok()) return;
    if (geometry.images == 0) {
      std::fill_n(Data(dkernel), dkernel->NumElements(), 0.0f);
      return;
    }
    WithStride([&](auto stride) {
      constexpr int kStride = decltype(stride)::value;
      const Blocks blocks(geometry, 0, geometry.map_height);
      const int64_t size = Algorithm<kStride>::kWeights * kSide * geometry.channels * geometry.filters;
      const int64_t parts = std::clamp<int64_t>(std::min(kMostNumbers / size, blocks.Count()), 1, kMostPieces);
      const int64_t panels = (geometry.filters + kPanel - 1) / kPanel;
      const int64_t bands = std::min(kMostPieces / parts, panels);
      Tensor sums = Scratch(context, parts, size);
      if (!context->status().ok()) return;
      ForPieces(context, geometry, blocks, parts * bands, [&](int64_t first, int64_t last) {
        const Transforms<kStride> transforms(geometry);
        const Products<kStride> inputs(Workspace::kInputs, geometry, blocks, kStride, geometry.channels);
        const Products<kStride> outputs(Workspace::kOutputs, geometry, blocks, 1, geometry.filters);
        for (int64_t piece = first; piece < last; piece++) {
          const int64_t part = piece / bands, band = piece % bands;
          const int64_t begin = panels * band / bands * kPanel;
          const int64_t end = std::min(panels * (band + 1) / bands * kPanel, geometry.filters);
          bool is_first = true;
          for (int64_t i = blocks.Count() * part / parts; i < blocks.Count() * (part + 1) / parts; i++) {
            for (int phase = 0; phase < kStride; phase++) transforms.FromImages(blocks[i], phase, Data(images), inputs);
            transforms.FromMaps(blocks[i], 0, Data(dmaps), outputs);
            float* to = Data(&sums) + part * size;
            if (is_first) {
              SumProducts<false>(blocks[i], inputs, outputs, geometry, begin, end, to);
            } else {
              SumProducts<true>(blocks[i], inputs, outputs, geometry, begin, end, to);
            }
            is_first = false;
          }
        }
      });
      ToKernel<kStride>(context, sums, geometry, Data(dkernel));
    });
  }

 private:
  static constexpr int64_t kMostPieces = 8;            // No more threads than this have work.
  static constexpr int64_t kMostNumbers = 16'000'000;  // of all parts together: 64 MB

  typedef double DoubleLanes __attribute__((vector_size(8 * kLanes)));  // wider than a register, but only here

  // To filters begin … end of sums [weights, rows of the kernel, channels, filters].
  template <bool kAdds, int kStride>
  static void SumProducts(const Block& block, const Products<kStride>& inputs, const Products<kStride>& outputs,
                          const Geometry& geometry, int64_t begin, int64_t end, float* sums) {
    using Winograd = Algorithm<kStride>;
    const Steps steps{1, geometry.channels, geometry.filters, geometry.filters};
    std::vector<Term> terms;
    for (int weight = 0; weight < Winograd::kWeights; weight++) {
      for (int64_t row = 0; row < kSide; row++, sums += geometry.channels * geometry.filters) {
        ForChannels<kMostGroups>(end - begin, [&](auto groups, int64_t from_begin) {
          const int64_t column = begin + from_begin;
          terms.clear();
          for (int product = 0; product < Winograd::kProducts; product++) {
            if (Winograd::kWeightOf[product] != weight) continue;
            for (int64_t image = 0; image < block.images; image++) {
              terms.push_back({inputs.Rows(product, image, row % kStride, row / kStride),
                               outputs.Rows(product, image, 0, 0) + column, block.rows * inputs.Tiles(product)});
            }
          }
          SumUp<kAdds, decltype(groups)::value>(geometry.channels, terms, steps, sums + column);
        });
      }
    }
  }

  // From sums [parts, weights, rows of the kernel, channels, filters].
  template <int kStride>
  static void ToKernel(OpKernelContext* context, const Tensor& sums, const Geometry& geometry, float* dkernel) {
    using Winograd = Algorithm<kStride>;
    const int64_t parts = sums.dim_size(0), channels = geometry.channels, filters = geometry.filters;
    Parallel(context, kSide * channels, filters * parts, [&](int64_t first, int64_t last) {
      for (int64_t at = first; at < last; at++) {
        const int64_t row = at / channels, channel = at % channels;
        for (int64_t filter = 0; filter < filters; filter += kLanes) {
          DoubleLanes s[Winograd::kWeights] = {}, w[kSide];
          for (int64_t part = 0; part < parts; part++) {
            const float* from = Data(sums) + part * sums.dim_size(1) + at * filters + filter;
            for (int i = 0; i < Winograd::kWeights; i++) {
              s[i] += __builtin_convertvector(Load(from + i * kSide * channels * filters), DoubleLanes);
            }
          }
          Winograd::ToKernel(s, w);
          float* to = dkernel + (row * kSide * channels + channel) * filters + filter;
          for (int i = 0; i < kSide; i++) Store(to + i * channels * filters, __builtin_convertvector(w[i], Lanes));
        }
      }
    });
  }
};

}  // namespace vae_runner
