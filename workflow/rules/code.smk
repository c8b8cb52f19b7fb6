# The library files that define what each kind of node leaves: a change in any of them runs it again. dvc.yaml lists
# the same ones, as folders. Data enter as dataset.json, which holds their checksum: Snakemake would hash the data
# themselves several times for every node.
# What a network is: its blocks and how it is built.
NETWORK = package("moonshine/networks")
# Where blocks can go in anybody's network, and where attention is transferred.
LAYOUT = [*package("moonshine/substitution"), "workflow/layouts.py", "workflow/trainable.py"]
# What a network costs.
COSTS = package("moonshine/costs")
# What a network would take of a budget.
SIZES = [*package("moonshine/formats"), "moonshine/budgets.py", "workflow/sizes.py"]
# The search for a mixed student, and rivals.
SEARCH = [*package("moonshine/search"), "workflow/mixing.py"]
# The training loop and what it reads.
TRAIN = [*package("moonshine/data"), *package("moonshine/training")]
# The losses of distillation, and the warm start.
DISTILLATION = package("moonshine/distillation")
# Exported files and their receipts.
EXPORT = [*package("moonshine/export"), "workflow/shipped.py", "workflow/shipping.py"]
# What every trained network depends on.
TRAINING = [*NETWORK, *TRAIN, "moonshine/artifacts.py", *package("workflow/training")]
