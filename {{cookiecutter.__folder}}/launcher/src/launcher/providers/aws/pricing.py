"""Where AWS's prices come from, and what its two services add to them.

A backend has rows of its own in `prices.csv`, in USD for one node and hour, GPUs included, rounded
up to a tenth of a cent. They were read on the date below from SkyPilot's public catalogue
(github.com/skypilot-org/skypilot-catalog, catalogs/v9/aws/vms.csv, commit 2c3d7ea), which is made
of AWS's own list. Those of us-east-1 are also in Karpenter's table, which comes from AWS's Pricing
API (github.com/aws/karpenter-provider-aws, pkg/providers/pricing/zz_generated.pricing_aws.go,
commit 6fc13b5, made on 2026-07-20), and are the same there. Regions that an account must switch on
first are left out, and sa-east-1, which the catalogue has not. `make prices` compares the table
with AWS's list.

The column `source`:

    catalogue   EC2's price, as the catalogue has it.
    half        derived: half of the machine of twice that size, as it is in us-east-1.
    listed      SageMaker's price for training in us-east-1, as a public project read it from AWS's
                list on 2026-09-27; for some types several have the same number.
    ml          derived: EC2's price here, and the share that SageMaker asks on top of it in
                us-east-1: about 0.40 for the smallest of g4dn, g5, g6 and g6e, 0.25 for larger
                ones, 0.15 for p4d and p5, 0.20 without a GPU.

`spot` of Batch is no price that somebody has seen but what its compute environments let pay at
most: `spot_percent` of the price on demand is their `bidPercentage`, and above it they start no
machine (docs.aws.amazon.com/batch/latest/APIReference/API_ComputeResource.html). So it is a worst
case that AWS itself keeps, whatever the market does; a bill is mostly lower. It is 70: in the
catalogue's spot prices (read 2026-11-28) nearly every machine has a zone below that in nearly every
region. Only p5.4xlarge was at 79 to 100 in us-east-1 and at 70 to 84 in us-west-2, so for that the
worst case is the price on demand. Where the market is above (p4d.24xlarge in ap-south-1) the job
waits until its queue's limit.

`spot` of SageMaker is its price on demand, for it has no other: managed spot training takes its
discount off the seconds that it bills (docs.aws.amazon.com/sagemaker/latest/dg/
model-managed-spot-training.html), and none is promised.

`backends`: EC2 has these machines in these regions, so Batch has. Of SageMaker, botocore's model
names all these types for training, but nothing was found that says in which regions. Its quotas
are a hint, which `quotas.py` looks at before a launch: in the list of an account of eu-west-1 there
was none for p5.4xlarge and g6e, but there were some for g6, which EC2 has not there.
"""

from __future__ import annotations

from pathlib import Path

DATE = "2026-11-28"
TABLE = Path(__file__).parent / "prices.csv"
# USD an hour, of public price lists of us-east-1 and rounded up to a cent. Batch: 100 GB of gp3
# (0.08 a GB and month) and a public IPv4 address (0.005). SageMaker: 100 GB of its storage (0.14),
# counted for machines with NVMe too, which are given none.
EXTRA = {"sagemaker": 0.02, "batch": 0.02}
FEE = ()  # SageMaker's is in its rows

SPOT_PERCENT = 70  # of the price on demand
SPOT_PERCENTS = {"p5.4xlarge": 100}


def added(backend: str, machine_type: str) -> float:
    """Give USD an hour that is added to a machine: its disk, and an address where it has one."""
    return EXTRA[backend]


def spot_percent(machine_type: str) -> int:
    """Give what share of the price on demand Batch may pay at most for a machine on spot."""
    return SPOT_PERCENTS.get(machine_type, SPOT_PERCENT)
