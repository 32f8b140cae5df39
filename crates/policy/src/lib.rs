//! What is audited: switches, areas, entities, excluded messages, activities
