//! What callers ask of a network: forward and backward passes, said once for all of them.

use crate::layers::dropout::Key;

/// What a forward pass does beside computing its output.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pass {
    /// Drops activations, with these random numbers.
    pub(super) key: Option<Key>,
    /// Keeps the caches of the backward pass.
    pub(super) keeps: bool,
    /// Keeps what comes out of every module.
    pub(super) traced: bool,
}

/// The passes of a network, made of its `checked`, its `run` and its `back`; the second word is where its layout is.
macro_rules! passes {
    ($network:ident, $($layout:tt)*) => {
        impl $network {
            /// The output for x_t, without what a backward pass would need.
            ///
            /// # Shapes
            /// x (n, h, w, channels in) to (n, h, w, channels out).
            ///
            /// # Errors
            /// No image, image sizes that the network cannot be run on, labels that are missing, not expected, or out of range.
            pub fn predict<F: Real>(
                &self,
                w: &dyn Weights<F>,
                x: Array4<F>,
                conditions: Conditions,
            ) -> Result<Array4<F>> {
                let x = self.checked(x, conditions)?;
                Ok(self.run(w, x, conditions, Pass::default()).0)
            }

            /// The output, and the caches of the backward pass; with a key, activations are dropped.
            ///
            /// # Errors
            /// As [`predict`](Self::predict).
            pub fn forward<F: Real>(
                &self,
                w: &dyn Weights<F>,
                x: Array4<F>,
                conditions: Conditions,
                key: Option<Key>,
            ) -> Result<(Array4<F>, Tape<F>)> {
                let x = self.checked(x, conditions)?;
                let (y, tape, _) = self.run(w, x, conditions, Pass { key, keeps: true, traced: false });
                Ok((y, tape))
            }

            /// [`forward`](Self::forward), and what came out of every module, by diffusers' names and in the order of the
            /// pass.
            ///
            /// # Errors
            /// As [`predict`](Self::predict).
            pub fn forward_traced<F: Real>(
                &self,
                w: &dyn Weights<F>,
                x: Array4<F>,
                conditions: Conditions,
            ) -> Result<(Array4<F>, Tape<F>, Taps<F>)> {
                let x = self.checked(x, conditions)?;
                let (y, tape, trace) = self.run(w, x, conditions, Pass { key: None, keeps: true, traced: true });
                Ok((y, tape, trace.named(&self.$($layout)*)))
            }

            /// Gradients of all parameters from dy = ∂L/∂(output), added into `grads`, which hears which are final, block by block.
            ///
            /// # Panics
            /// If the tape or the labels are not those of a [`forward`](Self::forward) pass of this network.
            pub fn parameter_gradients<F: Real>(
                &self,
                w: &dyn Weights<F>,
                tape: Tape<F>,
                labels: Option<&[usize]>,
                dy: impl Into<Kept<F, Ix4>>,
                grads: &mut dyn GradientSink<F>,
            ) {
                self.back(w, tape, labels, dy.into(), grads, false);
            }

            /// Gradients of all parameters from dy = ∂L/∂(output), added into `grads`; returns ∂L/∂x.
            ///
            /// # Panics
            /// If the tape or the labels are not those of a [`forward`](Self::forward) pass of this network.
            pub fn backward<F: Real>(
                &self,
                w: &dyn Weights<F>,
                tape: Tape<F>,
                labels: Option<&[usize]>,
                dy: impl Into<Kept<F, Ix4>>,
                grads: &mut ParameterVector<F>,
            ) -> Array4<F> {
                self.back(w, tape, labels, dy.into(), grads, true).expect("the gradient of x was asked for")
            }
        }
    };
}

pub(super) use passes;
