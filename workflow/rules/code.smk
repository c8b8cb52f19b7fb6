# The library files that define what each kind of node leaves: a change in any of them runs it again. dvc.yaml lists
# the same ones. Data enter as dataset.json, which holds their checksum: Snakemake would hash the data themselves
# several times for every node.
# What a network is: its blocks and how it is built.
NETWORK = [
    "moonshine/blocks.py",
    "moonshine/families.py",
    "moonshine/models.py",
    "moonshine/modules.py",
    "moonshine/networks.py",
    "moonshine/places.py",
    "moonshine/replacement.py",
    "moonshine/residual.py",
    "moonshine/resnet.py",
    "moonshine/tracing.py",
]
# Where blocks can go in anybody's network, and where attention is transferred.
LAYOUT = [
    "moonshine/layout.py",
    "moonshine/structures.py",
    "moonshine/substitution.py",
    "moonshine/tap_discovery.py",
    "moonshine/watching.py",
    "workflow/layouts.py",
]
# What a network costs.
COSTS = [
    "moonshine/costs.py",
    "moonshine/file_sizes.py",
    "moonshine/metering.py",
]
# What a network would take of a budget.
SIZES = [
    "moonshine/budgets.py",
    "moonshine/export/about.py",
    "moonshine/export/formats.py",
    "moonshine/export/graphs.py",
    "moonshine/export/onnx_graphs.py",
    "moonshine/export/quantisation.py",
    "moonshine/export/quiet.py",
    "moonshine/export/sizes.py",
    "moonshine/latency.py",
    "workflow/sizes.py",
]
# The search for a mixed student, and rivals.
SEARCH = [
    "moonshine/additive.py",
    "moonshine/exported_candidates.py",
    "moonshine/exported_sizes.py",
    "moonshine/fisher.py",
    "moonshine/grid.py",
    "moonshine/place_costs.py",
    "moonshine/place_latency.py",
    "moonshine/rivals.py",
    "moonshine/sampling.py",
    "moonshine/scoring.py",
    "moonshine/search.py",
    "moonshine/space.py",
    "moonshine/windows.py",
    "workflow/mixing.py",
]
# The training loop and what it reads.
TRAIN = [
    "moonshine/data/batches.py",
    "moonshine/data/store.py",
    "moonshine/execution.py",
    "moonshine/optimizer.py",
    "moonshine/schedules.py",
    "moonshine/train.py",
]
# The losses of distillation, and the warm start.
DISTILLATION = [
    "moonshine/block_fit.py",
    "moonshine/distillation.py",
    "moonshine/least_squares.py",
    "moonshine/losses.py",
    "moonshine/taps.py",
    "moonshine/warm_places.py",
    "moonshine/warm_start.py",
]
# Exported files and their receipts.
EXPORT = [
    "moonshine/export/card.py",
    "moonshine/export/classify.py",
    "moonshine/export/folders.py",
    "moonshine/export/latency_table.py",
    "moonshine/export/receipts.py",
    "moonshine/export/runtimes.py",
    "moonshine/export/timings.py",
    "moonshine/export/writing.py",
    "workflow/shipping.py",
]
# What every trained network depends on.
TRAINING = [
    *NETWORK,
    *TRAIN,
    "moonshine/artifacts.py",
    "workflow/configuration.py",
    "workflow/trained_files.py",
    "workflow/training.py",
]
