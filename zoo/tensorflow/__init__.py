"""The four models in TensorFlow: one graph from raw columns to scores, with the reference's weights. No PyTorch.

It is the reference's arithmetic on the arguments of ``zoo.onnx.inputs``. TensorFlow's operators and no Keras layers:
those keep their variables outside of any graph, and copy the tables that here stay where the weights' file is mapped.
"""
