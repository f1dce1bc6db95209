"""Where statistics go while a model is watched: one file per destination.

A recorder takes the summary of each call and must not hold up the model. Whoever makes a recorder closes it.
"""

from regard.observe.recorders.heads import HeadRecorder
from regard.observe.recorders.log import LogRecorder
from regard.observe.recorders.plotjuggler import PlotJugglerRecorder
from regard.observe.recorders.prometheus import PrometheusRecorder
from regard.observe.recorders.recorder import Recorder, Recorders
from regard.observe.recorders.tensorboard import TensorBoardRecorder
from regard.observe.recorders.tracker import TrackerRecorder

__all__ = [
    "HeadRecorder",
    "LogRecorder",
    "PlotJugglerRecorder",
    "PrometheusRecorder",
    "Recorder",
    "Recorders",
    "TensorBoardRecorder",
    "TrackerRecorder",
]
