from . import applications as applications, diagnosis as diagnosis
from .arch.build import features as features
from .arch.cost import Cost as Cost
from .arch.ops import Plan as Plan
from .arch.recover import spec_of as spec_of
from .arch.spec import NetSpec as NetSpec
from .arch.zoo import cost as cost, plan as plan, spec as spec
from .data.audit import Audit as Audit
from .data.dataset import Data as Data
from .data.sources import open_data as open_data
from .deployment.artifact import Artifact as Artifact
from .deployment.bench import Bench as Bench, bench as bench
from .deployment.deploy import deploy as deploy
from .deployment.fold import fold_norms as fold_norms
from .diagnosis.causes import Cause as Cause
from .diagnosis.diagnose import Diagnosis as Diagnosis, diagnose as diagnose
from .diagnosis.doctor import Doctor as Doctor
from .diagnosis.gradient_flow import GradientFlow as GradientFlow
from .diagnosis.prune import Pruned as Pruned, prune_depth as prune_depth
from .errors import NotFiniteError as NotFiniteError, ReszooError as ReszooError
from .experiments.compare import compare as compare
from .experiments.comparison import Comparison as Comparison
from .experiments.evidence import Evidence as Evidence, evidence as evidence
from .models import (
    create as create,
    list_models as list_models,
    plain18 as plain18,
    plain20_cifar as plain20_cifar,
    plain32_cifar as plain32_cifar,
    plain34 as plain34,
    plain44_cifar as plain44_cifar,
    plain50 as plain50,
    plain56_cifar as plain56_cifar,
    plain101 as plain101,
    plain110_cifar as plain110_cifar,
    plain152 as plain152,
    plain200 as plain200,
    plain1202_cifar as plain1202_cifar,
    plain_mlp18 as plain_mlp18,
    plain_mlp50 as plain_mlp50,
    plain_mlp100 as plain_mlp100,
    preact_resnet18 as preact_resnet18,
    preact_resnet34 as preact_resnet34,
    preact_resnet50 as preact_resnet50,
    preact_resnet101 as preact_resnet101,
    preact_resnet110_cifar as preact_resnet110_cifar,
    preact_resnet152 as preact_resnet152,
    preact_resnet164_cifar as preact_resnet164_cifar,
    preact_resnet200 as preact_resnet200,
    preact_resnet1001_cifar as preact_resnet1001_cifar,
    residual_mlp18 as residual_mlp18,
    residual_mlp50 as residual_mlp50,
    residual_mlp100 as residual_mlp100,
    resnet18 as resnet18,
    resnet18d as resnet18d,
    resnet20_cifar as resnet20_cifar,
    resnet26 as resnet26,
    resnet26d as resnet26d,
    resnet32_cifar as resnet32_cifar,
    resnet34 as resnet34,
    resnet34d as resnet34d,
    resnet44_cifar as resnet44_cifar,
    resnet50 as resnet50,
    resnet50_v1 as resnet50_v1,
    resnet50d as resnet50d,
    resnet56_cifar as resnet56_cifar,
    resnet101 as resnet101,
    resnet101_v1 as resnet101_v1,
    resnet101d as resnet101d,
    resnet110_cifar as resnet110_cifar,
    resnet152 as resnet152,
    resnet152_v1 as resnet152_v1,
    resnet152d as resnet152d,
    resnet200 as resnet200,
    resnet200d as resnet200d,
    resnet1202_cifar as resnet1202_cifar,
    resnext50_32x4d as resnext50_32x4d,
    resnext101_32x8d as resnext101_32x8d,
    resnext101_64x4d as resnext101_64x4d,
    rolled as rolled,
    se_resnet50 as se_resnet50,
    se_resnet101 as se_resnet101,
    se_resnet152 as se_resnet152,
    tabular_resnet as tabular_resnet,
    unrolled as unrolled,
    wide_resnet16_4_cifar as wide_resnet16_4_cifar,
    wide_resnet28_10_cifar as wide_resnet28_10_cifar,
    wide_resnet40_4_cifar as wide_resnet40_4_cifar,
    wide_resnet50_2 as wide_resnet50_2,
    wide_resnet101_2 as wide_resnet101_2,
)
from .surgery import (
    deepen as deepen,
    drop_blocks as drop_blocks,
    remove_dead_channels as remove_dead_channels,
    to_plain as to_plain,
)
from .training.cross_validation import CrossValidation as CrossValidation, cross_validate as cross_validate
from .training.evaluate import Evaluation as Evaluation, evaluate as evaluate
from .training.fine_tune import (
    Frozen as Frozen,
    Unfreeze as Unfreeze,
    freeze as freeze,
    layer_decay as layer_decay,
    reestimate_norm as reestimate_norm,
)
from .training.heads import replace_head as replace_head
from .training.metrics import ClassMetrics as ClassMetrics
from .training.predict import Prediction as Prediction, Predictions as Predictions, predict as predict
from .training.rate_finder import RateCurve as RateCurve, find_rate as find_rate
from .training.recipes import Recipe as Recipe, list_recipes as list_recipes, recipe as recipe
from .training.resume import resume as resume
from .training.saving import save as save
from .training.train import train as train
from .training.trained import Trained as Trained
from .tuning.budget import Budget as Budget
from .tuning.ensemble import Ensemble as Ensemble
from .tuning.hypermodel import HyperResNet as HyperResNet
from .tuning.leaderboard import Leaderboard as Leaderboard
from .tuning.results import Trial as Trial
from .tuning.search import Search as Search, search as search
from .tuning.space import Space as Space, list_spaces as list_spaces, space as space
from .tuning.study import Study as Study, open_study as open_study
from .weights.catalogue import (
    Preprocessing as Preprocessing,
    Record as Record,
    list_weights as list_weights,
    record as record,
)
from .weights.convert import Converted as Converted, convert as convert
from .weights.labels import DecodedLabel as DecodedLabel, decode_predictions as decode_predictions
from .weights.load import Loaded as Loaded, from_checkpoint as from_checkpoint, load_weights as load_weights
from .weights.origin import Origin as Origin, origin as origin
from .weights.preprocessing import preprocessing as preprocessing
from .weights.report import Placement as Placement, Report as Report
from .weights.settle import Settled as Settled, settle as settle
