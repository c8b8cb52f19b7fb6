# The library files that define what each kind of node leaves: a change in any of them runs it again. dvc.yaml lists
# the same ones. Data enter as dataset.json, which holds their checksum: Snakemake would hash the data
# themselves several times for every node.
PIPELINE = "workflow/moonshine_workflow"
# What a network is: its blocks, how it is described and built, and where blocks can go in any network.
NETWORK = ["moonshine/blocks", "moonshine/networks", "moonshine/structures", "moonshine/substitution"]
# The structure of a teacher, and of a student that needs no search.
LAYOUT = [f"{PIPELINE}/students/layouts.py"]
# What a network costs.
COSTS = ["moonshine/costs"]
# Deep Compression, and its file.
COMPRESSION = ["moonshine/compression"]
# What a network would take of a budget.
SIZES = [*COMPRESSION, "moonshine/formats", f"{PIPELINE}/students/sizes.py"]
# The search for a mixed student, and rivals.
SEARCH = ["moonshine/search", f"{PIPELINE}/students"]
# The training loop and what it reads.
TRAIN = ["moonshine/data", "moonshine/training"]
# The losses of distillation, and the warm start.
DISTILLATION = ["moonshine/distillation"]
# Exported files and their receipts.
EXPORT = ["moonshine/export", f"{PIPELINE}/stages/shipping.py"]
# What every trained network depends on.
TRAINING = [*NETWORK, *TRAIN, *COMPRESSION, f"{PIPELINE}/training"]
# The tables.
TABLES = [f"{PIPELINE}/tables"]
