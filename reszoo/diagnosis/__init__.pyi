from .advice import Advice as Advice
from .anatomy import Anatomy as Anatomy, take_apart as take_apart
from .causes import KINDS as KINDS
from .measures.census import Census as Census, census as census
from .measures.gradient_profile import GradientProfile as GradientProfile, gradient_profile as gradient_profile
from .measures.information import Information as Information, Readout as Readout, information as information
from .measures.lesion import (
    EarlyExit as EarlyExit,
    LesionStudy as LesionStudy,
    early_exit as early_exit,
    lesion_study as lesion_study,
)
from .measures.loss_surface import (
    LossSlice as LossSlice,
    Predictiveness as Predictiveness,
    loss_slice as loss_slice,
    predictiveness as predictiveness,
)
from .measures.path_length import PathLength as PathLength, path_length as path_length
from .measures.result import Result as Result
from .measures.shattering import Shattering as Shattering, shattering as shattering
from .measures.signal import (
    Correlation as Correlation,
    SignalPropagation as SignalPropagation,
    correlation as correlation,
    signal_propagation as signal_propagation,
)
from .repair import Repair as Repair
from .trial import OneBatch as OneBatch, Run as Run, Trial as Trial
from .units import Units as Units
