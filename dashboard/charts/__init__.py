"""Chart builders: pure functions from a frame to an Altair chart. They import no Streamlit and read no database."""
