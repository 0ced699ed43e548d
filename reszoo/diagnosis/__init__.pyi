from .anatomy import Anatomy as Anatomy, take_apart as take_apart
from .flow import GradientProfile as GradientProfile, gradient_profile as gradient_profile
from .lesion import (
    EarlyExit as EarlyExit,
    LesionStudy as LesionStudy,
    early_exit as early_exit,
    lesion_study as lesion_study,
)
from .paths import PathLength as PathLength, path_length as path_length
from .readable import Information as Information, information as information
from .result import Result as Result
from .shatter import Shattering as Shattering, shattering as shattering
from .signal import (
    Correlation as Correlation,
    SignalPropagation as SignalPropagation,
    correlation as correlation,
    signal_propagation as signal_propagation,
)
from .smooth import (
    LossSlice as LossSlice,
    Predictiveness as Predictiveness,
    loss_slice as loss_slice,
    predictiveness as predictiveness,
)
