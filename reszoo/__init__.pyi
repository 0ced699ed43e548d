from .arch.build import features as features
from .arch.recover import spec_of as spec_of
from .arch.zoo import cost as cost
from .arch.zoo import list_models as list_models
from .arch.zoo import plan as plan
from .arch.zoo import spec as spec
from .errors import ReszooError as ReszooError
from .models import create as create
from .models import (
    plain18 as plain18,
)
from .models import (
    plain20_cifar as plain20_cifar,
)
from .models import (
    plain32_cifar as plain32_cifar,
)
from .models import (
    plain34 as plain34,
)
from .models import (
    plain44_cifar as plain44_cifar,
)
from .models import (
    plain50 as plain50,
)
from .models import (
    plain56_cifar as plain56_cifar,
)
from .models import (
    plain101 as plain101,
)
from .models import (
    plain110_cifar as plain110_cifar,
)
from .models import (
    plain152 as plain152,
)
from .models import (
    plain200 as plain200,
)
from .models import (
    plain1202_cifar as plain1202_cifar,
)
from .models import (
    plain_mlp18 as plain_mlp18,
)
from .models import (
    plain_mlp50 as plain_mlp50,
)
from .models import (
    plain_mlp100 as plain_mlp100,
)
from .models import (
    preact_resnet18 as preact_resnet18,
)
from .models import (
    preact_resnet34 as preact_resnet34,
)
from .models import (
    preact_resnet50 as preact_resnet50,
)
from .models import (
    preact_resnet101 as preact_resnet101,
)
from .models import (
    preact_resnet110_cifar as preact_resnet110_cifar,
)
from .models import (
    preact_resnet152 as preact_resnet152,
)
from .models import (
    preact_resnet164_cifar as preact_resnet164_cifar,
)
from .models import (
    preact_resnet200 as preact_resnet200,
)
from .models import (
    preact_resnet1001_cifar as preact_resnet1001_cifar,
)
from .models import (
    residual_mlp18 as residual_mlp18,
)
from .models import (
    residual_mlp50 as residual_mlp50,
)
from .models import (
    residual_mlp100 as residual_mlp100,
)
from .models import (
    resnet18 as resnet18,
)
from .models import (
    resnet18d as resnet18d,
)
from .models import (
    resnet20_cifar as resnet20_cifar,
)
from .models import (
    resnet32_cifar as resnet32_cifar,
)
from .models import (
    resnet34 as resnet34,
)
from .models import (
    resnet34d as resnet34d,
)
from .models import (
    resnet44_cifar as resnet44_cifar,
)
from .models import (
    resnet50 as resnet50,
)
from .models import (
    resnet50_v1 as resnet50_v1,
)
from .models import (
    resnet50d as resnet50d,
)
from .models import (
    resnet56_cifar as resnet56_cifar,
)
from .models import (
    resnet101 as resnet101,
)
from .models import (
    resnet101_v1 as resnet101_v1,
)
from .models import (
    resnet101d as resnet101d,
)
from .models import (
    resnet110_cifar as resnet110_cifar,
)
from .models import (
    resnet152 as resnet152,
)
from .models import (
    resnet152_v1 as resnet152_v1,
)
from .models import (
    resnet152d as resnet152d,
)
from .models import (
    resnet200 as resnet200,
)
from .models import (
    resnet1202_cifar as resnet1202_cifar,
)
from .models import (
    resnext50_32x4d as resnext50_32x4d,
)
from .models import (
    resnext101_32x8d as resnext101_32x8d,
)
from .models import (
    resnext101_64x4d as resnext101_64x4d,
)
from .models import (
    se_resnet50 as se_resnet50,
)
from .models import (
    se_resnet101 as se_resnet101,
)
from .models import (
    se_resnet152 as se_resnet152,
)
from .models import (
    tabular_resnet as tabular_resnet,
)
from .models import (
    wide_resnet16_4_cifar as wide_resnet16_4_cifar,
)
from .models import (
    wide_resnet28_10_cifar as wide_resnet28_10_cifar,
)
from .models import (
    wide_resnet40_4_cifar as wide_resnet40_4_cifar,
)
from .models import (
    wide_resnet50_2 as wide_resnet50_2,
)
from .models import (
    wide_resnet101_2 as wide_resnet101_2,
)
