"""Where Google's prices come from, and what its two services add to them.

The rows of `prices.csv` are prices of Compute Engine in USD for one node and hour, GPUs included,
rounded up to a tenth of a cent, read on the date below from SkyPilot's public catalogue
(github.com/skypilot-org/skypilot-catalog, catalogs/v9/gcp/vms.csv, commit 2c3d7ea), which is made
of Google's own list. Spot prices change, up to once a day (cloud.google.com/spot-vms/pricing).
`make prices` compares the table with Google's list.

The column `source`:

    catalogue   machine and GPUs as the catalogue has them.
    a100        derived: on demand, the catalogue has a price with a discount for this GPU here. It
                is 0.47 of what Google lists (as it is of the same GPU in one region and another),
                so it was divided by that.
    h100        derived: the same, with other discounts. Listed are 9.797 for a GPU in us-east4;
                elsewhere the GPU was taken to cost as much more as the machine around it does.
    g4          derived: the catalogue has the machine without its GPUs. With them it costs 1.322
                times as much: 4.49993 for g4-standard-48 in us-west1 by Google's list
                (github.com/skypilot-org/skypilot/pull/10533, comment of 2026-08-20). The same
                factor was taken for spot, where the GPU was cheaper in May (pull/9593).

`on_demand` is empty where Google gives a machine only on spot, by flex-start or with a reservation:
a4, a3-ultragpu, and a3-highgpu with fewer than eight GPUs
(docs.cloud.google.com/compute/docs/accelerator-optimized-machines, "consumption option availability
by machine type"; read by way of github.com/dstackai/gpuhunt/pull/176 and its 0.1.34).

`backends`: Google Cloud Batch has what Compute Engine has. Vertex AI has not, for training, these
pairs (its page of locations, as of the audit of 2026-11-26): T4 in asia-east1, europe-west1,
us-east4, us-west4; L4 in asia-east1, asia-northeast1, europe-west1, europe-west2, europe-west3,
us-west4; A100 in asia-northeast1, us-east1, us-west1, us-west4; H100 in asia-east1, asia-south1,
europe-west1, europe-west3, us-west4. Nothing was found of it that says so for GPUs in
asia-northeast3, us-east5 and northamerica-northeast2, for machines without one in the last two
(asia-northeast3 is among the regions of `gcloud ai custom-jobs`), nor for H200, B200 and RTX PRO
6000 anywhere: these rows are of Batch alone until somebody has seen it.

Vertex AI adds a management fee for training. Its share of the price on demand is the column `fee`,
rounded up. How much of it is asked on a spot machine is not documented, so all of it is counted.
Batch has no fee of its own (cloud.google.com/batch/pricing).
"""

from __future__ import annotations

from pathlib import Path

DATE = "2026-11-26"
TABLE = Path(__file__).parent / "prices.csv"
# USD an hour, of Google's public price lists, rounded up to a cent: 100 GB of SSD; 100 GB of
# balanced disk and an address
EXTRA = {"vertex": 0.03, "batch": 0.02}
FEE = ("vertex",)

# Local SSD in GiB for each GPU, which comes with the machine whether wanted or not and is a line of
# its own on Compute Engine's bill: cloud.google.com/compute/docs/disks/local-ssd#lssd_disks_fixed,
# .../docs/accelerator-optimized-machines ("bundled Local SSD"). An A4's price includes it (its SKU,
# "A4 Nvidia B200 (1 gpu slice)", is the whole machine); Vertex AI's list has none.
LOCAL_SSD = {"a2-ultragpu": 375, "a3-highgpu": 750, "a3-ultragpu": 1500}
# USD for a GiB and hour, derived: 0.08 a month in Iowa, and as much more as machines cost at most
LOCAL_SSD_PRICE = 0.00015

# These boot from no Persistent Disk: sky/clouds/gcp.py of SkyPilot 0.14.1; for A3 Ultra also
# docs.cloud.google.com/vertex-ai/docs/reference/rest/v1/DiskSpec
HYPERDISK = ("a3-ultragpu-", "a4-", "g4-", "n4-")
# By the same page a boot disk of Vertex AI is pd-ssd, pd-standard or hyperdisk-balanced.
PERSISTENT = {"vertex": "pd-ssd", "batch": "pd-balanced"}


def added(backend: str, machine_type: str) -> float:
    """Give USD an hour that is added to a machine: boot disk, address, the local SSD it brings."""
    family, _, size = machine_type.rpartition("-")
    if backend != "batch" or family not in LOCAL_SSD:
        return EXTRA[backend]
    return EXTRA[backend] + LOCAL_SSD[family] * int(size.removesuffix("g")) * LOCAL_SSD_PRICE


def boot_disk(machine_type: str, backend: str = "batch") -> str:
    """Give the type of boot disk that a machine takes: the service's usual one, or Hyperdisk."""
    return "hyperdisk-balanced" if machine_type.startswith(HYPERDISK) else PERSISTENT[backend]
